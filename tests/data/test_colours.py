"""Maps of colours as tables: whichever tool wrote them, masks in colours are read by them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sweeper.data.class_map import read_class_map
from tests.support import annotated
from tests.support.folders import get_mask, join_problems, load_folder


def write_colours(root: Path, name: str, text: str | bytes) -> Path:
    """Write a set with masks in colours, the last with a palette in another order than any table's, and a table."""
    annotated.write_images(root, "images/{stem}.png", "masks/{stem}.png", lambda m: annotated.palette(m).convert("RGB"))
    last = root / "masks" / f"{annotated.STEMS[-1]}.png"
    Image.open(last).convert("P", palette=Image.Palette.ADAPTIVE).save(last)
    (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("class_dict.csv", "name,r,g,b\nbackground,0,0,0\ncat,128,0,0\ndog,0,128,0\nVoid,1,2,3\n"),
        ("label_class_dict.csv", " name, r, g, b\nbackground, 0, 0, 0\ncat, 128, 0, 0\ndog, 0, 128, 0\n"),
        ("colours.CSV", "Red;Green;Blue;Class\r\n0;0;0;background\r\n128;0;0;cat\r\n0;128;0;dog\r\n;;;\r\n"),
        (
            "map.csv",
            "id\tLabel\tR\tG\tB\n0\tdog\t0\t128\t0\n1\tcat\t128\t0\t0\n2\tbackground\t0\t0\t0\n".encode("utf-16"),
        ),
        ("label_colors.txt", "0 0 0 background\n128 0 0 cat\n0 128 0\tdog\n64 128 64\tVoid\n"),
        ("colors.txt", "0 background 0 0 0\n1 cat 128 0 0\n2 dog 0 128 0\n3 void 64 128 64\n"),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:128,0,0::\ndog:0,128,0::a,b\n"),
    ],
)
def test_tables_of_colours_are_read(tmp_path, name, text):
    dataset = load_folder(write_colours(tmp_path / "data", name, text))
    assert {*dataset.classes} == {*annotated.CLASSES} and dataset.classes[0] == "background"
    for index, image in enumerate(dataset.images):
        pixels = dict(zip(dataset.classes, image.pixels, strict=True))
        assert [pixels[name] for name in annotated.CLASSES] == np.bincount(annotated.truth(index).ravel()).tolist()


def test_a_colour_called_void_is_ignored(tmp_path):
    """As CamVid's lists have it."""
    root = write_colours(tmp_path / "data", "colors.txt", "0 0 0\tVoid\n128 0 0\tcat\n\n0 128 0  dog\n")
    dataset = load_folder(root)
    assert dataset.classes == ("cat", "dog")
    assert np.array_equal(get_mask(dataset), np.array([255, 0, 1], dtype=np.uint8)[annotated.truth(0)])


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("class_dict.csv", "name,r,g,b\nbackground,0,0,0\ncat,128,0\n", "line 3 must be `name:r,g,b::` with numbers"),
        ("class_dict.csv", "name,r,g,b\nbackground,0,0,0\ncat,999,0,0\n", "line 3 must be"),
        ("class_dict.csv", "name,r,g,b\na,0,0,0\nb,0,0,0\n", "a colour names one class"),
        ("class_dict.csv", "name,r,g,b\nbackground,0,0,0,0\n", "line 2 must have 4 entries like the header"),
        ("labelmap.txt", "cat 1,2\n", "labelmap.txt: line 1 must be `name:r,g,b::`"),
        ("labelmap.txt", "a:1,2,300::\n", "labelmap.txt: line 1 must be `name:r,g,b::`"),
        ("labelmap.txt", "a:0,0,0::\nb:0,0,0::\n", "labelmap.txt: "),
        ("labelmap.txt", "a:0,0,0::\n", "labelmap.txt: "),
    ],
)
def test_a_faulty_table_is_refused_with_its_name_and_line(tmp_path, name, text, words):
    problems = join_problems(write_colours(tmp_path / "data", name, text))
    assert name in problems and words in problems


def test_a_colour_missing_from_the_map_is_reported_with_its_place(tmp_path):
    root = write_colours(tmp_path / "data", "labelmap.txt", "background:0,0,0::\ncat:128,0,0::\ndog:0,128,0::\n")
    path = root / "masks" / "p3.png"
    image = Image.open(path).copy()
    image.putpixel((7, 2), (9, 8, 7))
    image.save(path)
    problem = "colours must be those of the map of colours, found (9, 8, 7) at x=7, y=2; add it to the map"
    assert f"masks/p3.png: {problem}" in join_problems(root)


def test_a_class_map_may_be_a_table(tmp_path):
    root = write_colours(
        tmp_path / "data", "class_dict.csv", "name,r,g,b\nbackground,0,0,0\ncat,128,0,0\ndog,0,128,0\n"
    )
    for number, text in enumerate(("label,class\n1,animal\ndog,animal\n", "Class;Label\nanimal;cat\nanimal;2\n;\n")):
        (tmp_path / f"map{number}.csv").write_text(text)
        class_map = read_class_map(tmp_path / f"map{number}.csv")
        dataset = load_folder(root, class_map=class_map)
        assert dataset.classes == ("background", "animal") and dataset.images[0].pixels[1] == np.count_nonzero(
            annotated.truth(0)
        )


@pytest.mark.parametrize(
    ("name", "head", "row", "end"),
    [
        ("manifest.csv", "Image;MASK;Group\r\n", "{0};{1};g{2}\r\n", ";;\r\n"),
        ("liste.csv", '"mask"\t"image"\t"group"\t\n', '"{1}"\t"{0}"\t"g{2}"\t\n', ""),
        ("Pairs.CSV", "sep=,\nimage , mask, group\n", "{0} , {1}, g{2}\n", ",,\n"),
    ],
)
def test_a_manifest_from_a_spreadsheet_is_read(tmp_path, name, head, row, end):
    root = tmp_path / "data"
    annotated.write_images(root, "a/{stem}.png", "b/{stem}_x.png")
    rows = (row.format(f"a/{stem}.png", f"b/{stem}_x.png", i // 2) for i, stem in enumerate(annotated.STEMS))
    (root / name).write_text("".join([head, *rows, end]), encoding="utf-16" if "liste" in name else "utf-8")
    dataset = load_folder(root)
    assert (len(dataset.images), dataset.format) == (8, "manifest")
    assert [image.group for image in dataset.images] == [f"g{i // 2}" for i in range(8)]
