"""The profile page: every part is there, names are only ever data, figures lie inside, and nothing runs."""

from __future__ import annotations

import json
import re

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.core.records import IGNORE
from sweeper.fingerprint.imbalance import profile_masks
from sweeper.report.figures.style import palette
from sweeper.report.prediction_files import for_people, overlay, thinned
from tests.report.test_html import TAGS, Document
from tests.support.folders import folder, image, mask

HOSTILE = "<script>alert(1)</script>"


def test_the_page_holds_everything_and_needs_nothing(sweeper, tmp_path):
    status, out, err = sweeper("profile", "synthetic:street?images=10&size=64", "--out", tmp_path / "page")
    assert status == 0 and "profile.html" in err and "ground" in out
    files = sorted(p.relative_to(tmp_path / "page").as_posix() for p in (tmp_path / "page").rglob("*") if p.is_file())
    figures = ["figures/samples.svg"]
    assert files == [*figures, "profile.html", "profile.json", "profile.md"]
    text = (tmp_path / "page" / "profile.md").read_text("utf-8")
    for heading in ("Problems", "Classes", "Images", "Split"):
        assert f"## {heading}" in text
    assert all(f"]({figure})" in text for figure in figures)
    page = Document((tmp_path / "page" / "profile.html").read_text("utf-8"))
    (shown,) = page.of("img")
    assert (shown["src"] or "").startswith("data:image/svg+xml;base64,")
    assert {tag for tag, _ in page.found} <= TAGS
    document = json.loads((tmp_path / "page" / "profile.json").read_text("utf-8"))
    assert document["consequences"]


def test_the_same_data_give_the_same_bytes_over_an_older_page(sweeper, tmp_path):
    data = "synthetic:blobs?images=6&size=64"
    (tmp_path / "one" / "figures").mkdir(parents=True)
    (tmp_path / "one" / "figures" / "suspects.svg").write_bytes(b"old")
    for name in ("one", "two"):
        assert sweeper("profile", data, "--out", tmp_path / name)[0] == 0
    for path in (tmp_path / "two").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "one" / path.relative_to(tmp_path / "two")).read_bytes()
    assert not (tmp_path / "one" / "figures" / "suspects.svg").exists()


def test_names_are_data(sweeper, tmp_path):
    lines = {f"{stem}$x_y*": mask(0, *[1] * 4, shift=i, height=40, width=50) for i, stem in enumerate("abcd")}
    root = folder(tmp_path / "<b>data|", lines, classes=f"ground\n{HOSTILE}|x\n")
    for seed, stem in enumerate(lines):
        image(seed, 40, 50).save(root / "images" / f"{stem}.png")
    (root / "masks" / "d$x_y*.png").write_bytes((root / "masks" / "a$x_y*.png").read_bytes())
    assert sweeper("profile", root, "--out", tmp_path / "page")[0] == 0
    page = Document((tmp_path / "page" / "profile.html").read_text("utf-8"))
    assert {tag for tag, _ in page.found} <= TAGS
    assert HOSTILE in page.text and "byte-identical on different images: a$x_y* = d$x_y*." in page.text
    text = (tmp_path / "page" / "profile.md").read_text("utf-8")
    assert "<script>" not in text and re.search(r"[^\\]\|x", text) is None


def test_what_was_read_is_told_apart_from_what_the_doctor_found(sweeper, tmp_path):
    masks = {stem: mask(0, 1, shift=i, height=40, width=50) for i, stem in enumerate("abcd")}
    root = folder(tmp_path / "data", masks, split="stem,split,group\na,train,g\nb,test,g\nc,,\nd,,\n")
    for seed, stem in enumerate(masks):
        image(seed, 40, 50).save(root / "images" / f"{stem}.png")
    assert sweeper("profile", root, "--out", tmp_path / "page")[0] == 0
    problems = (tmp_path / "page" / "profile.md").read_text("utf-8").split("## Classes")[0]
    told, read = problems.split("What was seen while reading:")
    assert "- 1 group lies on several sides" in read and "group lies" not in told
    found = re.search(r"found (\d+) errors?, (\d+) warnings?, (\d+) notes?", told)
    assert (sum(map(int, found.groups())) if found else 0) == told.count("\n- **")


def test_an_unwritable_folder_is_refused(sweeper, tmp_path):
    (tmp_path / "file").write_text("")
    status, _, err = sweeper("profile", "synthetic:blobs?images=3&size=64", "--out", tmp_path / "file" / "x")
    assert status == 2 and "--out" in err


# --- Advice ---------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(st.permutations(range(6)), st.integers(0, 99))
def test_the_profile_is_invariant_to_the_order_of_masks(order, seed):
    rng = np.random.default_rng(seed)
    masks = [rng.choice([0, 0, 1, 2, 255], (int(rng.integers(3, 20)), 11)).astype(np.uint8) for _ in range(6)]
    masks[0][:2] = [[0], [1]]
    assert profile_masks([masks[i] for i in order], ("a", "b", "c")) == profile_masks(masks, ("a", "b", "c"))


def test_images_of_any_depth_can_be_shown():
    deep = np.random.default_rng(0).integers(0, 40_000, (8, 9, 12)).astype(np.uint16)
    assert for_people(deep).shape == (8, 9, 3) and for_people(deep).dtype == np.uint8
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    assert np.array_equal(for_people(grey), grey)
    assert for_people(np.full((4, 4, 1), 900, np.uint16)).shape == (4, 4, 1)


def test_an_overlay_tints_classes_and_leaves_the_ground():
    image, labels = np.full((30, 30, 3), 100, np.uint8), np.zeros((30, 30), np.uint8)
    labels[10:20, 10:20], labels[25:] = 1, IGNORE
    laid = overlay(image, labels, palette(2))
    assert (laid[0, 0] == laid[0, 0, 0]).all() and len(set(laid[15, 15].tolist())) > 1
    assert laid[10, 12].tolist() == palette(2)[1].tolist()  # the outline is opaque
    assert (laid[25:] == 245).any()


def test_thin_things_survive_a_smaller_print():
    labels = np.zeros((101, 90), np.uint8)
    labels[37], labels[60:80, 10:12] = 1, IGNORE
    small = thinned(labels, 4)
    assert small.shape == (26, 23) and (small[9] == 1).all() and (small == IGNORE).any()
    assert np.array_equal(thinned(labels, 1), labels)


def test_palettes_differ_between_neighbours():
    colours = palette(22).astype(int)
    assert len(colours) == 22
    distance = np.abs(colours[1:, None] - colours[None, 1:]).sum(axis=2)
    assert distance[~np.eye(21, dtype=bool)].min() > 20
