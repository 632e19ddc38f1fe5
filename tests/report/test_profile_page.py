"""The profile page: it has every part, escapes all names, embeds its figures, and has no scripts."""

from __future__ import annotations

import json
import re

from tests.report.test_html import TAGS, Document
from tests.support.folders import folder, image, mask

HOSTILE = "<script>alert(1)</script>"


def test_the_page_has_all_sections_and_embeds_its_figures(sweeper, tmp_path):
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
    (image,) = page.of("img")
    assert (image["src"] or "").startswith("data:image/svg+xml;base64,")
    assert {tag for tag, _ in page.found} <= TAGS
    document = json.loads((tmp_path / "page" / "profile.json").read_text("utf-8"))
    assert document["consequences"]


def test_names_are_escaped(sweeper, tmp_path):
    masks = {f"{stem}$x_y*": mask(0, *[1] * 4, shift=i, height=40, width=50) for i, stem in enumerate("abcd")}
    root = folder(tmp_path / "<b>data|", masks, classes=f"ground\n{HOSTILE}|x\n")
    for seed, stem in enumerate(masks):
        image(seed, 40, 50).save(root / "images" / f"{stem}.png")
    (root / "masks" / "d$x_y*.png").write_bytes((root / "masks" / "a$x_y*.png").read_bytes())
    assert sweeper("profile", root, "--out", tmp_path / "page")[0] == 0
    page = Document((tmp_path / "page" / "profile.html").read_text("utf-8"))
    assert {tag for tag, _ in page.found} <= TAGS
    assert HOSTILE in page.text and "byte-identical on different images: a$x_y* = d$x_y*." in page.text
    text = (tmp_path / "page" / "profile.md").read_text("utf-8")
    assert "<script>" not in text and re.search(r"[^\\]\|x", text) is None


def test_problems_of_reading_are_listed_separately(sweeper, tmp_path):
    masks = {stem: mask(0, 1, shift=i, height=40, width=50) for i, stem in enumerate("abcd")}
    root = folder(tmp_path / "data", masks, split="stem,split,group\na,train,g\nb,test,g\nc,,\nd,,\n")
    for seed, stem in enumerate(masks):
        image(seed, 40, 50).save(root / "images" / f"{stem}.png")
    assert sweeper("profile", root, "--out", tmp_path / "page")[0] == 0
    problems = (tmp_path / "page" / "profile.md").read_text("utf-8").split("## Classes")[0]
    findings, reading = problems.split("What was seen while reading:")
    assert "- 1 group is on several sides" in reading and "group is" not in findings
    counts = re.search(r"found (\d+) errors?, (\d+) warnings?, (\d+) notes?", findings)
    assert (sum(map(int, counts.groups())) if counts else 0) == findings.count("\n- **")


def test_an_unwritable_folder_is_rejected(sweeper, tmp_path):
    (tmp_path / "file").write_text("")
    status, _, err = sweeper("profile", "synthetic:blobs?images=3&size=64", "--out", tmp_path / "file" / "x")
    assert status == 2 and "--out" in err
