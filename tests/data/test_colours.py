"""Maps of colours as tables: whichever tool wrote them, masks in colours are read by them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sweeper.core.errors import DataError
from sweeper.core.records import Dataset
from sweeper.data import load_dataset
from sweeper.data.class_map import read_class_map
from tests.support import annotated


def coloured(root: Path, name: str, text: str | bytes) -> Path:
    """Return a set with masks in colours and a table."""
    annotated.written(
        root, "images/{stem}.png", "masks/{stem}.png", lambda mask: annotated.palette(mask).convert("RGB")
    )
    (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def load(root: Path) -> Dataset:
    return load_dataset(str(root), root.parent / "cache")


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
    dataset = load(coloured(tmp_path / "data", name, text))
    assert {*dataset.classes} == {*annotated.CLASSES} and dataset.classes[0] == "background"
    for index, image in enumerate(dataset.images):
        found = dict(zip(dataset.classes, image.pixels, strict=True))
        assert [found[name] for name in annotated.CLASSES] == np.bincount(annotated.truth(index).ravel()).tolist()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,r,g,b\nbackground,0,0,0\ncat,128,0\n", "line 3 must be `name:r,g,b::` with numbers below 256"),
        ("name,r,g,b\nbackground,0,0,0\ncat,999,0,0\n", "line 3 must be"),
        ("name,r,g,b\na,0,0,0\nb,0,0,0\n", "a colour names one class"),
        ("name,r,g,b\nbackground,0,0,0,0\n", "line 2 must have 4 entries like the header"),
        ("name,r,g,b\nbackground,0,0,0\ncat,128,0,0\n", "colours must be those of the map of colours"),
    ],
)
def test_a_faulty_table_is_named(tmp_path, text, words):
    with pytest.raises(DataError) as error:
        load(coloured(tmp_path / "data", "class_dict.csv", text))
    assert words in str(error.value)


def test_a_class_map_may_be_a_table(tmp_path):
    root = coloured(tmp_path / "data", "class_dict.csv", "name,r,g,b\nbackground,0,0,0\ncat,128,0,0\ndog,0,128,0\n")
    for number, text in enumerate(("label,class\n1,animal\ndog,animal\n", "Class;Label\nanimal;cat\nanimal;2\n;\n")):
        (tmp_path / f"map{number}.csv").write_text(text)
        class_map = read_class_map(tmp_path / f"map{number}.csv")
        found = load_dataset(str(root), tmp_path / "cache", class_map=class_map)
        assert found.classes == ("background", "animal") and found.images[0].pixels[1] == np.count_nonzero(
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
    annotated.written(root, "a/{stem}.png", "b/{stem}_x.png")
    rows = (row.format(f"a/{stem}.png", f"b/{stem}_x.png", i // 2) for i, stem in enumerate(annotated.STEMS))
    (root / name).write_text("".join([head, *rows, end]), encoding="utf-16" if "liste" in name else "utf-8")
    dataset = load(root)
    assert (len(dataset.images), dataset.format) == (8, "manifest")
    assert [image.group for image in dataset.images] == [f"g{i // 2}" for i in range(8)]
