"""Bad input ends in a list of named problems and status 2, or in a stated warning; never in a traceback.

Each case spoils one of the small sets of `tests.support.annotated`.
"""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tifffile
from PIL import Image

from sweeper.cli.main import main
from tests.support import annotated
from tests.support.annotated import CLASSES, HEIGHT, STEMS, WIDTH, photo, truth

Spoil = Callable[[Path], None]


class Case(NamedTuple):
    """What is spoiled, and how it must end."""

    format: str
    spoil: Spoil
    words: tuple[str, ...]
    """All of them must be in what is said."""
    ends: str = "problem"
    """`problem` (status 2), `warning` (status 0), or `fine` (status 0 and nothing to say)."""
    heavy: bool = False
    """Run in a process of its own, whose memory is measured."""


def make_png(width: int, height: int) -> bytes:
    """Return a PNG whose header claims a size, with next to no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


def make_tiff(width: int, height: int, samples: int) -> bytes:
    """Return a TIFF whose header claims a size."""
    tags = [(256, 4, width), (257, 4, height), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, samples)]
    tags += [(278, 4, height), (279, 4, 100), (284, 3, 1)]
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + body + bytes(4)


def write_inflating_tiff(root: Path) -> None:
    """Make an image a TIFF of 12 channels whose one strip unpacks to 1.5 gigabytes."""
    body = bytearray(make_tiff(100, 100, 12))
    packer = zlib.compressobj(9)
    strip = b"".join(packer.compress(bytes(1 << 24)) for _ in range(96)) + packer.flush()
    changes = {259: 8, 273: len(body), 279: len(strip)}
    for place in range(10, len(body) - 4, 12):
        tag = struct.unpack_from("<H", body, place)[0]
        if tag in changes:
            struct.pack_into("<I", body, place + 8, changes[tag])
    (root / "images" / "p0.tif").write_bytes(bytes(body) + strip)
    (root / "images" / "p0.png").unlink()


def enlarge(name: str, size: int) -> Spoil:
    """Make a file larger, with a hole that takes no disk."""

    def spoil(root: Path) -> None:
        os.truncate(root / name, size)

    return spoil


def write(name: str, content: bytes | str) -> Spoil:
    """Put something in a file's place."""

    def spoil(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return spoil


def save(name: str, image: Callable[[], Image.Image], **options: Any) -> Spoil:
    """Save another image in a file's place."""
    return lambda root: image().save(root / name, **options)


def write_masks(label: Callable[[int], np.ndarray]) -> Spoil:
    """Write all masks again."""

    def spoil(root: Path) -> None:
        for index, stem in enumerate(STEMS):
            Image.fromarray(label(index)).save(root / "masks" / f"{stem}.png")

    return spoil


def link_to_nowhere(root: Path) -> None:
    """Put a link in an image's place."""
    (root / "images" / "p0.png").unlink()
    (root / "images" / "p0.png").symlink_to("nowhere.png")


def link_out(name: str, target: str) -> Spoil:
    """Put a link in the place of a file or folder, to what lies outside: a copy of it."""

    def spoil(root: Path) -> None:
        (root / name).rename(root.parent / target)
        (root / name).symlink_to(root.parent / target)

    return spoil


def add_manifest_row(image: str, mask: str = "b/p0_label.png", rest: str = "train,g") -> Spoil:
    """Add a row to the manifest; there is an image `outside.png` outside."""

    def spoil(root: Path) -> None:
        photo(0).save(root.parent / "outside.png")
        with (root / "manifest.csv").open("a") as file:
            file.write(f"{image},{mask},{rest}\n")

    return spoil


def change_labelme(**changes: Any) -> Spoil:
    """Change the LabelMe file of p0."""
    return lambda root: annotated.labelme_json(root / "p0.json", 0, **changes)


def add_labelme_shape(points: Any, kind: str = "polygon", label: Any = "cat", **more: Any) -> Spoil:
    """Return one shape in the LabelMe file of p0, in addition to the usual ones."""
    shape = {"label": label, "points": points, "shape_type": kind, **more}
    return lambda root: annotated.labelme_json(root / "p0.json", 0, shapes=[*annotated.shapes(0), shape])


def change_coco(change: Callable[[dict[str, Any]], Any]) -> Spoil:
    """Change COCO's JSON."""

    def spoil(root: Path) -> None:
        data = annotated.coco_data()
        change(data)
        (root / "annotations" / "instances_default.json").write_text(json.dumps(data))

    return spoil


def change_first_annotation(**changes: Any) -> Spoil:
    """Change COCO's first annotation."""
    return change_coco(lambda data: data["annotations"][0].update(changes))


def add_yolo_line(line: str) -> Spoil:
    """Add a line to the labels of p0."""

    def spoil(root: Path) -> None:
        with (root / "train" / "labels" / "p0.txt").open("a") as file:
            file.write(line + "\n")

    return spoil


def combine(*spoils: Spoil) -> Spoil:
    """Several faults at once."""

    def spoil(root: Path) -> None:
        for one in spoils:
            one(root)

    return spoil


def remove(name: str) -> Spoil:
    """Take a file away."""
    return lambda root: (root / name).unlink()


def save_tiff(folder: str, values: np.ndarray) -> Spoil:
    """Put a TIFF of these values in the place of p0."""
    return combine(lambda root: tifffile.imwrite(root / folder / "p0.tif", values), remove(f"{folder}/p0.png"))


def use_non_utf8_name(root: Path) -> None:
    photo(0).save(os.fsencode(root / "images") + b"/\xff\xfe.png", format="PNG")
    Image.fromarray(truth(0)).save(os.fsencode(root / "masks") + b"/\xff\xfe.png", format="PNG")


def use_escapes(root: Path) -> None:
    for folder in ("images", "masks"):
        (root / folder / "p0.png").rename(root / folder / "e\x1b[31m{0}%s.png")


def animate(root: Path) -> None:
    photo(0).save(root / "images" / "p0.png", format="PNG", save_all=True, append_images=[photo(1), photo(2)])


NESTED = '{"images": ' + "[" * 100_000 + "]" * 100_000 + ', "annotations": [], "categories": []}'
NIFTI = b"\x1f\x8b" + bytes(100)

CASES: dict[str, Case] = {
    # Images and masks as files
    "text called png": Case("folder", write("images/p0.png", "hello"), ("images/p0.png: must be one of PNG",)),
    "jpeg called png": Case("folder", save("images/p0.png", lambda: photo(0), format="JPEG"), (), "fine"),
    "animated png": Case("folder", animate, ("images/p0.png: must be a single image, found 3 pages",)),
    "cmyk": Case(
        "folder", combine(save("images/p0.jpg", lambda: photo(0).convert("CMYK")), remove("images/p0.png")), (), "fine"
    ),
    "bomb of 20,000²": Case(
        "folder", write("images/p0.png", make_png(20_000, 20_000)), ("images/p0.png", "100 megapixels"), heavy=True
    ),
    "tiff that ends before its pixels": Case(
        "folder",
        combine(write("images/p0.tif", make_tiff(900, 900, 12)), remove("images/p0.png")),
        ("images/p0.tif: cannot be decoded",),
    ),
    "tiff whose part unpacks to gigabytes": Case(
        "folder", write_inflating_tiff, ("images/p0.tif: a part of it must hold 240000 bytes, found more",), heavy=True
    ),
    "floating-point image": Case(
        "folder", save_tiff("images", np.ones((HEIGHT, WIDTH), np.float32)), ("images/p0.tif", "8 or 16 bits")
    ),
    "negative image": Case(
        "folder",
        save_tiff("images", -7 * np.ones((HEIGHT, WIDTH), np.int16)),
        ("images/p0.tif: values must be within 0 and 65535, found -7 to -7",),
    ),
    "floating-point mask": Case(
        "folder",
        save_tiff("masks", np.full((HEIGHT, WIDTH), 0.5, np.float32)),
        ("masks/p0.tif: masks must hold whole numbers, found 0.5",),
    ),
    "image turned by exif, mask not": Case(
        "folder",
        lambda root: photo(0).save(
            root / "images" / "p0.png", exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
        ),
        ("1 label drawn before its image's EXIF orientation", "masks/p0.png"),
        "warning",
    ),
    "all ignored": Case("folder", write_masks(lambda i: np.full_like(truth(i), 255)), ("at least two classes",)),
    "0 and 255 among labels": Case(
        "folder",
        write_masks(lambda i: truth(i) if i else np.where(truth(i) > 0, 255, 0).astype(np.uint8)),
        ("255 must mean the same in all masks",),
    ),
    "stems that unicode makes equal": Case(
        "folder",
        combine(
            save("images/\u00e9.png", lambda: photo(0)),
            save("images/e\u0301.png", lambda: photo(1)),
            save("masks/\u00e9.png", lambda: Image.fromarray(truth(0))),
        ),
        (".png: a name may be that of one file, found 2; rename",),
    ),
    "name with escapes": Case("folder", use_escapes, (), "fine"),
    "name that is no text": Case("folder", use_non_utf8_name, ("must be Unicode",)),
    "link out of the folder": Case(
        "folder", link_out("images/p0.png", "p0.png"), ("images/p0.png: must lie inside the data folder, found a link",)
    ),
    "linked folder of images": Case(
        "folder", link_out("images", "pool"), ("images: must lie inside the data folder, found a link to",)
    ),
    "link to nowhere": Case("folder", link_to_nowhere, ("images/p0.png: cannot be read", "check where the link leads")),
    "a link to itself": Case("folder", lambda root: (root / "images" / "loop").symlink_to("loop"), (), "fine"),
    "a pipe among the images": Case(
        "folder", lambda root: os.mkfifo(root / "images" / "x.png"), ("images/x.png: must be a file", "found a pipe")
    ),
    "classes.txt of bytes": Case("folder", write("classes.txt", b"\x89\xff\xd8"), ("classes.txt: must be UTF-8",)),
    "classes.txt of zeros": Case("folder", write("classes.txt", b"\xff\xfe\0\0"), ("names must be printable",)),
    "an empty folder": Case(
        "folder", lambda root: [p.rename(root.parent / p.name) for p in root.iterdir()], ("found",)
    ),
    # Manifest
    "manifest with ..": Case("manifest", add_manifest_row("../outside.png"), ("'../outside.png' must be in the data",)),
    "manifest with NUL": Case("manifest", add_manifest_row("a/p\0.png"), ("manifest.csv: line 10: image: the file",)),
    "manifest with a missing mask": Case(
        "manifest", add_manifest_row("a/p0.png", "b/none.png"), ("'b/none.png' must be",)
    ),
    "manifest with an image twice": Case("manifest", add_manifest_row("a/p0.png"), ("a stem may name one image",)),
    "manifest with a wrong split": Case("manifest", add_manifest_row("a/p0.png", rest="both,"), ("found 'both'",)),
    # LabelMe
    "labelme with a foreign path": Case(
        "labelme", change_labelme(imagePath="C:\\x\\other.png"), ("p0.json: the file 'C:/x/other.png' must be in",)
    ),
    "labelme with NaN": Case("labelme", add_labelme_shape([[1, 1], [9, float("nan")], [9, 9]]), ("p0.json", "finite")),
    "labelme partly outside": Case(
        "labelme", add_labelme_shape([[50, 1], [99, 1], [99, 9]]), ("reach out of the image",), "warning"
    ),
    "labelme of a strange shape": Case("labelme", add_labelme_shape([[1, 1]], "spline"), ("must be one of polygon",)),
    "labelme without label": Case(
        "labelme",
        add_labelme_shape([[1, 1], [5, 5], [1, 5]], label=None),
        ("shape 3 label: Input should be a valid string, found null",),
    ),
    "labelme with a broken image": Case(
        "labelme", change_labelme(imagePath="none.png", imageData="AAAA"), ("p0.json (imageData): must be one of PNG",)
    ),
    "labelme of another size": Case(
        "labelme", change_labelme(imageWidth=10**9, imageHeight=10**9), ("p0.json: width and height must be",)
    ),
    # COCO
    "coco with NaN": Case("coco", change_first_annotation(segmentation=[[1, 1, 9, float("nan"), 9, 9]]), ("finite",)),
    "coco far away": Case(
        "coco", change_first_annotation(segmentation=[[1, 1, 1e9, 1, 9, 9]]), ("must be in the image",), heavy=True
    ),
    "coco outside": Case(
        "coco", change_first_annotation(segmentation=[[90, 1, 99, 1, 99, 9]]), ("must be in the image",)
    ),
    "coco with an odd number": Case(
        "coco",
        change_first_annotation(segmentation=[[1, 1, 9, 9, 5]]),
        ("annotations[0] segmentation: must be x, y, x, y",),
    ),
    "coco with runs that break off": Case(
        "coco",
        change_first_annotation(segmentation={"size": [HEIGHT, WIDTH], "counts": "95"}),
        ("an RLE must have its image's size",),
    ),
    "coco with enormous runs": Case(
        "coco",
        change_first_annotation(segmentation={"size": [10**6, 10**6], "counts": [10**12]}),
        ("its image's size",),
    ),
    "coco with a strange category": Case(
        "coco", change_first_annotation(category_id=77), ("of one of the categories, found 1 of unknown ones (77",)
    ),
    "coco with a strange image": Case(
        "coco", change_first_annotation(image_id=77), ("of one of the images, found 1 of unknown ones (77",)
    ),
    "coco with boxes alone": Case(
        "coco",
        change_coco(lambda data: [a.update(segmentation=[]) for a in data["annotations"]]),
        ("annotations for detection",),
    ),
    "coco with an id twice": Case(
        "coco", change_coco(lambda d: d["images"].append(d["images"][0])), ("an id of its own",)
    ),
    "coco of numbers": Case(
        "coco",
        change_coco(lambda d: d.update(annotations=[1, 2])),
        ("annotations[0] Input should be a valid dictionary",),
    ),
    "coco that breaks off": Case(
        "coco",
        write("annotations/instances_default.json", '{"images": [], "annotations": [], "categories": ['),
        ("must be JSON",),
    ),
    "coco of more than a gibibyte": Case(
        "coco", enlarge("annotations/instances_default.json", 1025 << 20), ("must be 1024 MiB at most, found 1025",)
    ),
    "coco without end": Case(
        "coco", write("annotations/instances_default.json", NESTED), ("must be JSON",), heavy=True
    ),
    # The others
    "yaml that runs code": Case(
        "yolo",
        write("data.yaml", 'names: !!python/object/apply:os.system ["true"]\ntrain: train/images\n'),
        ("data.yaml",),
    ),
    "yolo with ..": Case(
        "yolo", write("data.yaml", "names: [cat, dog]\ntrain: ../../../etc\n"), ("must be a folder or list",)
    ),
    "yolo with a strange class": Case("yolo", add_yolo_line("2 .1 .1 .2 .1 .2 .2"), ("a class from 0 to 1",)),
    "yolo with a box": Case("yolo", add_yolo_line("1 .5 .5 .1 .1"), ("1 of 17 objects have a box",), "warning"),
    "yolo in pixels": Case("yolo", add_yolo_line("1 5 5 20 5 20 20"), ("from 0 to 1",)),
    "yolo with NaN": Case("yolo", add_yolo_line("1 .1 .1 nan .1 .2 .2"), ("pairs of coordinates",)),
    "voc with an image in two lists": Case(
        "voc", write("ImageSets/Segmentation/val.txt", "p0\np4\n"), ("must be in one list",)
    ),
    "voc with a stranger in a list": Case(
        "voc", write("ImageSets/Segmentation/val.txt", "p4\nzz\n"), ("val.txt (1 of 2 lines name images)",), "warning"
    ),
    "voc with a mask alone": Case(
        "voc", remove("JPEGImages/p0.png"), ("SegmentationClass/p0.png: has no image; add it, or remove the mask")
    ),
    "cityscapes with a missing label": Case(
        "cityscapes",
        remove("gtFine/train/town/p0_gtFine_labelIds.png"),
        ("1 image without a mask, passed over: p0",),
        "warning",
    ),
    "nnunet of volumes": Case("nnunet", write("imagesTr/p0_0000.nii.gz", NIFTI), ("images must be 2-D",)),
    "nnunet without a channel": Case("nnunet", remove("imagesTr/p0_0001.png"), ("its 3 channel files, found 2",)),
    "nnunet with gaps": Case(
        "nnunet",
        write("dataset.json", json.dumps({"labels": {n: 2 * i for i, n in enumerate(CLASSES)}})),
        ("without gaps",),
    ),
    "nnunet with regions": Case(
        "nnunet", write("dataset.json", '{"labels": {"background": 0, "whole": [1, 2], "part": 9}}'), ("part",)
    ),
    "nnunet with channels of two sizes": Case(
        "nnunet", save("imagesTr/p0_0001.png", lambda: Image.new("L", (9, 9))), ("channels must have one size",)
    ),
}

MEMORY_KIB = 1 << 20
"""One GiB."""
# Not getrusage: on Linux its peak is inherited from the process that started this one, which made the bombs.
CHILD = (
    "import sys; from sweeper.cli.main import main\ntry:\n    main()\nfinally:\n    lines = "
    "open('/proc/self/status').read().splitlines()\n    print(*(line.split()[1] for line in lines if "
    "line.startswith('VmHWM')), file=sys.stderr)\n"
)


def spoil_set(tmp_path, name):
    """Make a small set with this fault, and return the command that looks at it."""
    root = tmp_path / "data"
    annotated.FORMATS[CASES[name].format](root)
    CASES[name].spoil(root)
    (tmp_path / "flatten.yaml").write_text("overlap: flatten\n")  # shapes of two classes overlap in these sets
    map_ = ["--class-map", str(tmp_path / "flatten.yaml")] * (CASES[name].ends == "warning")
    return ["profile", str(root), "--format", CASES[name].format, *map_]


def check_end(name, status, out, err):
    case = CASES[name]
    assert "Traceback" not in err
    assert status == (2 if case.ends == "problem" else 0), err
    if case.ends == "problem":
        assert re.search(r"\b(1 problem|\d+ problems) in the data set", err)
        assert "nothing was trained" in err and out == ""
        assert all(line.startswith(("sweeper: ", "  - ", "reading ", "decoding: ")) for line in err.splitlines()), err
    else:
        assert ("warning: " in err) == (case.ends == "warning"), err
    for words in case.words:
        assert words in err
    assert len(err) < 300_000 and all(c.isprintable() or c == "\n" for c in err)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.heavy])
def test_bad_input_is_refused_with_its_file_and_rule(tmp_path, monkeypatch, capfd, name):
    monkeypatch.setattr(sys, "argv", ["sweeper", *spoil_set(tmp_path, name)])
    with pytest.raises(SystemExit) as caught:
        main()
    out, err = capfd.readouterr()
    check_end(name, int(caught.value.code or 0), out, err)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from Linux's /proc")
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.heavy])
@pytest.mark.slow
def test_decompression_bombs_need_at_most_a_gibibyte(tmp_path, name):
    command = [sys.executable, "-c", CHILD, *spoil_set(tmp_path, name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280, cwd=tmp_path)
    *lines, peak = done.stderr.splitlines()
    check_end(name, done.returncode, done.stdout, "\n".join(lines))
    assert int(peak) < MEMORY_KIB, f"{int(peak) >> 10} MiB"
