"""The profile page: every part is there, names are only ever data, figures lie inside, and nothing runs."""

from __future__ import annotations

import json
import re

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
    assert "- 1 group is on several sides" in read and "group is" not in told
    found = re.search(r"found (\d+) errors?, (\d+) warnings?, (\d+) notes?", told)
    assert (sum(map(int, found.groups())) if found else 0) == told.count("\n- **")


def test_an_unwritable_folder_is_refused(sweeper, tmp_path):
    (tmp_path / "file").write_text("")
    status, _, err = sweeper("profile", "synthetic:blobs?images=3&size=64", "--out", tmp_path / "file" / "x")
    assert status == 2 and "--out" in err
