"""What no format reads: it is listed, and refused with the step that makes it readable; none is parsed."""

from __future__ import annotations

import csv
import json
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sweeper.core.records import Dataset, Patterns
from sweeper.data.store import open_store
from tests.support.annotated import CLASSES, SIDES, STEMS, coco, photo, truth, write_images
from tests.support.folders import find_problems, get_mask, load_folder

DOCS = Path(__file__).parents[2] / "docs" / "formats.md"
VIA = {"a.jpg1": {"filename": "a.jpg", "regions": [{"shape_attributes": {"name": "polygon"}, "region_attributes": {}}]}}
KNOWN: dict[str, tuple[str, Any, str, str]] = {
    "boxes": ("Annotations/a.xml", "<annotation><object><bndbox/></object></annotation>", "detection boxes", "draw"),
    "Kaggle": ("t.csv", "ImageId,EncodedPixels\na.jpg,1 3 10 5\nb.jpg,\n", "run-length masks", "#run-length-tables"),
    "HuBMAP": ("t.csv", "id;rle\na;1 3 10 5\n", "run-length masks", "#run-length-tables"),
    "another table": ("t.csv", "file,class,pixels\na,b,3 4 9 9 20 1\n", "run-length masks", "#run-length-tables"),
    "YOLO's labels": ("labels/p0.txt", "0 0.1 0.1 0.9 0.1 0.9 1.0\n", "YOLO's labels alone", "> data.yaml"),
    "Git LFS": ("instances.json", "version https://git-lfs.github.com/spec/v1\noid", "a Git LFS", "`git lfs pull`"),
    "other columns": ("manifest.csv", "Bild;Maske\nx/a.png;y/a.TIF\n", "a file table", "columns image and mask"),
    "compressed files": ("im0001.ppm.gz", "", "a compressed file", "gunzip -r ."),
    "an archive": ("set.tar.gz", "", "an archive", "tar -xf "),
}
UNREAD: dict[str, tuple[str, Any]] = {
    "VIA 2": ("via_region_data.json", VIA),
    "CVAT": ("annotations.xml", '<?xml version="1.0"?>\n<annotations>\n<image id="0"/>'),
    "Labelbox": ("export.ndjson", '{"data_row": {"id": 1}, "projects": {}}\n'),
    "QuPath": ("a.geojson", {"type": "FeatureCollection", "features": []}),
    "Hugging Face": ("metadata.jsonl", '{"file_name": "a.png", "label": "b.png"}\n'),
    "WKT": ("polygons.csv", 'image,polygon\na.png,"POLYGON((0 0, 1 1, 2 0))"\n'),
    "volumes": ("case.nii.gz", "\0\1"),
}
RULE = "must hold images/ and masks/ with equal stems, or annotations of docs/formats.md, found "


def write_export(root: Path, file: str, content: Any, images: str = "images/{stem}.jpg") -> Path:
    """Return a folder of images and an export, at its place."""
    write_images(root, images)
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(content if isinstance(content, str) else json.dumps(content))
    return root / file


@pytest.mark.parametrize("images", ["images/{stem}.jpg", "{stem}.png"])
@pytest.mark.parametrize("name", KNOWN)
def test_a_known_file_is_refused_with_the_step_that_makes_it_readable(tmp_path, name, images):
    file, content, tool, step = KNOWN[name]
    path = write_export(tmp_path / "data", file, content, images)
    (problem,) = find_problems(tmp_path / "data")
    assert problem.startswith(f"{file}: must be annotations that are read, found ")
    assert tool in problem and step in problem and len(problem) < 300
    if path.suffix in (".json", ".csv", ".gz"):
        assert find_problems(path)[0].endswith(problem.split("; ", 1)[1])


@pytest.mark.parametrize("name", UNREAD)
def test_all_else_is_listed_with_its_beginning(tmp_path, name):
    file, content = UNREAD[name]
    path = write_export(tmp_path / "data", file, content)
    shown = (content if isinstance(content, str) else json.dumps(content)).splitlines()[0][:60]
    begin = f": `{shown}" if shown.isprintable() else ""
    for source, where in ((tmp_path / "data", file), (path, path.name))[: 1 + (path.suffix != ".csv")]:
        (problem,) = find_problems(source)
        assert problem.startswith(f"{source}: {RULE}") and f"1 {path.suffix} ({where}{begin}" in problem
        assert "COCO, or their masks as PNG" in problem and len(problem) < 1500
    assert f"{len(STEMS)} .jpg (images/" in find_problems(tmp_path / "data")[0]


def test_the_printed_lines_write_an_image_and_a_mask_for_each_entry(data):
    """Of all images in one array, of one archive for each image, and of 16 bits; the two lines are filled in."""
    pictures = np.stack([np.asarray(photo(index)) for index in range(len(STEMS))])
    labels = np.stack([truth(index) for index in range(len(STEMS))])
    np.save("X_train.npy", pictures / 255)
    np.save("y_train.npy", labels[..., None])
    (problem,) = find_problems(data)
    sizes = f"2 .npy (X_train.npy: {pictures.shape}, y_train.npy: {(*labels.shape, 1)})"
    assert sizes in problem
    printed = problem[problem.index("\n") :]
    assert len(printed.strip().splitlines()) == 8 and printed.count("= ...") == 2
    for number, (image, label) in enumerate(zip(pictures, labels, strict=True)):
        np.savez_compressed(f"{number}.npz", image=image[..., 0] * 257.0, label=label == 1)
    assert f"{len(STEMS)} .npz (0.npz: image.npy: (48, 64), label.npy: (48, 64), " in find_problems(data)[0]
    arrays = '[np.load(f"{n}.npz")["%s"] for n in range(' + f"{len(STEMS)})]"
    for filled, image, mask in (
        (('np.load("X_train.npy")', 'np.load("y_train.npy")'), pictures[3], truth(3)),
        ((arrays % "image", arrays % "label"), pictures[3, ..., :1] * 257.0, truth(3) == 1),
    ):
        lines = textwrap.dedent(printed).replace("= ...", f"= {filled[0]}", 1).replace("= ...", f"= {filled[1]}", 1)
        exec(lines, {})
        dataset = load_folder(data / "set")
        assert np.array_equal(get_mask(dataset, 3), mask)
        assert np.abs(open_store(dataset.store).get_image(3) - image).max() <= 1


def test_coco_in_utf_16_is_read(tmp_path):
    coco(tmp_path / "data")
    (path,) = (tmp_path / "data").rglob("*.json")
    before = load_folder(tmp_path / "data").digest
    path.write_text(path.read_text("utf-8"), "utf-16")
    assert load_folder(tmp_path / "data").digest == before


def test_the_printed_step_makes_yolo_labels_readable(tmp_path):
    root = write_export(tmp_path / "data", *KNOWN["YOLO's labels"][:2]).parents[1]
    subprocess.run(find_problems(root)[0].split("images/: ")[1], shell=True, cwd=root, check=True)
    assert load_folder(root).classes == ("background", "object")


def test_arrays_in_a_folder_of_masks_are_read(tmp_path):
    write_images(tmp_path / "data", "images/{stem}.png")
    (tmp_path / "data" / "masks").mkdir()
    for index, stem in enumerate(STEMS):
        np.save(tmp_path / "data" / "masks" / f"{stem}.npy", truth(index))
    assert np.array_equal(get_mask(load_folder(tmp_path / "data")), truth(0))


@pytest.mark.parametrize("file", ["annotations/instances.json", "data.yaml", "manifest.csv"])
def test_annotations_that_are_a_broken_link_are_reported_as_such(tmp_path, file):
    write_images(tmp_path / "data", "images/{stem}.png")
    (tmp_path / "data" / file).parent.mkdir(exist_ok=True)
    (tmp_path / "data" / file).symlink_to("gone")
    (problem,) = find_problems(tmp_path / "data")
    assert problem.startswith(f"{file}: must be a file, found a link that leads nowhere")


# --- The lines of docs/formats.md that write masks -----------------------------------------------------------------


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """Return an empty folder that is the current one."""
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path / "data")
    return tmp_path / "data"


def load_after_documented_lines(data: Path, title: str, images: str, masks: str = "masks/{stem}.png") -> Dataset:
    """Run the Python of a section of the page, and return the set that these patterns then find."""
    exec(DOCS.read_text("utf-8").split(f"### {title}")[1].split("```python\n")[1].split("```")[0], {})
    return load_folder(data, patterns=Patterns(images=images, masks=masks))


def test_the_documented_lines_resize_masks_of_another_size(data):
    write_images(data, "images/a/{stem}.jpg")
    write_images(data, masks="masks/a/{stem}.png", as_mask=lambda m: Image.fromarray(m.repeat(3, 0).repeat(2, 1)))
    (problem, *_) = find_problems(data)
    assert "must have its image's size 64×48 (upright by EXIF), found 128×144" in problem
    assert "not resized smoothly (docs/formats.md#masks-of-another-size has the lines that do)" in problem
    dataset = load_after_documented_lines(data, "Masks of another size", "images", "masks_resized")
    assert np.array_equal(get_mask(dataset), truth(0))


def test_the_documented_lines_stop_at_a_mask_that_is_turned(data):
    write_images(data, "images/{stem}.jpg", "masks/{stem}.png")
    path = data / "masks" / f"{STEMS[2]}.png"
    exact = load_folder(data).digest
    for angle, back in ((90, 270), (270, 90)):
        with Image.open(path) as mask:
            mask.rotate(angle, expand=True).resize((96, 128), Image.Resampling.NEAREST).save(path)
        with pytest.raises(SystemExit, match=f"{STEMS[2]}.png lies on its side"):
            load_after_documented_lines(data, "Masks of another size", "images", "masks_resized")
        with Image.open(path) as mask:
            mask.resize((48, 64), Image.Resampling.NEAREST).save(path)
        (problem,) = find_problems(data)
        assert f"{STEMS[2]}.png: must have its image's size 64×48 (upright by EXIF), found 48×64" in problem
        with Image.open(path) as mask:
            mask.rotate(back, expand=True).save(path)
        assert load_folder(data).digest == exact


def test_the_documented_lines_write_masks_of_panoptic_annotations(data):
    write_images(data, "train2017/{stem}.jpg")
    (data / "panoptic_train2017").mkdir()
    segments = [{"id": 70000 * label, "category_id": 10 * label} for label in (1, 2)]
    for index, stem in enumerate(STEMS):
        numbers = truth(index).astype(int) * 70000
        colours = np.stack([numbers >> shift & 255 for shift in (0, 8, 16)], axis=-1)
        Image.fromarray(colours.astype(np.uint8)).save(data / "panoptic_train2017" / f"{stem}.png")
    content = {
        "images": [{"id": stem, "file_name": f"{stem}.jpg"} for stem in STEMS],
        "annotations": [{"image_id": stem, "file_name": f"{stem}.png", "segments_info": segments} for stem in STEMS],
        "categories": [{"id": 10, "name": "cat"}, {"id": 20, "name": "dog"}],
    }
    (data / "panoptic_train2017.json").write_text(json.dumps(content))
    (problem,) = find_problems(data)
    assert "found COCO's panoptic ones; write PNGs into masks/ (docs/formats.md#panoptic-masks" in problem
    dataset = load_after_documented_lines(data, "Panoptic masks", "train2017/*")
    assert dataset.classes == ("cat", "dog")
    assert np.array_equal(get_mask(dataset), np.array([255, 0, 1])[truth(0)])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the lines leave images open
@pytest.mark.parametrize(
    ("columns", "classes"),
    [
        ("ImageId,EncodedPixels", ("background", "object")),
        ("ImageId,ClassId,EncodedPixels", ("background", "cat", "dog")),
        ("ImageId,EncodedPixels,Height,Width,CategoryId", ("background", "cat", "dog")),
        ("Image_Label,EncodedPixels", ("background", "cat", "dog")),
        ("id,rle,class", ("background", "cat", "dog")),
        ("id,class,segmentation", ("background", "cat", "dog")),
    ],
)
def test_the_documented_lines_write_masks_of_run_length_tables(data, columns, classes):
    """As Kaggle has them; some images lack a class, some rows hold nothing, and UW-Madison's runs go along the rows."""
    write_images(data, "train_images/{stem}.jpg")
    with (data / "train.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, columns.split(","))
        table.writeheader()
        for index, stem in enumerate(STEMS):
            for label in (1, 2):
                order = "C" if columns.endswith("segmentation") else "F"
                edges = np.flatnonzero(np.diff(np.r_[0, (truth(index) == label).ravel(order), 0])).reshape(-1, 2)
                runs, name = " ".join(f"{a + 1} {b - a}" for a, b in edges), CLASSES[label]
                first = {"Image_Label": f"{stem}.jpg_{name}", "id": stem}.get(columns.split(",")[0], f"{stem}.jpg")
                rest = {"Height": 48, "Width": 64, **dict.fromkeys(("ClassId", "CategoryId", "class"), name)}
                table.writerow(
                    {
                        c: runs if c in ("EncodedPixels", "rle", "segmentation") else rest.get(c, first)
                        for c in table.fieldnames
                    }
                )
    (problem,) = find_problems(data)
    assert "found run-length masks; write PNGs into masks/ (docs/formats.md#run" in problem
    dataset = load_after_documented_lines(data, "Run-length tables", "train_images/*", "masks/*/{stem}.png")
    assert dataset.classes == classes
    for index in range(len(STEMS)):
        assert np.array_equal(get_mask(dataset, index), np.minimum(truth(index), len(classes) - 1))


# --- Roboflow ----------------------------------------------------------------------------------------------------


def write_roboflow(root: Path, table: str = "Pixel Value, Class\n0, background\n1, cat\n2, dog\n") -> Path:
    write_images(root, "{side}/{stem}_jpg.rf.0a.jpg", "{side}/{stem}_jpg.rf.0a_mask.png")
    for side in set(SIDES):
        (root / side / "_classes.csv").write_text(table)
    return root


def test_roboflows_table_names_the_classes_unless_there_is_classes_txt(tmp_path):
    root = write_roboflow(tmp_path / "data")
    dataset = load_folder(root)
    assert dataset.classes == CLASSES and dataset.format == "pairs"
    assert np.array_equal(get_mask(dataset), truth(0))
    (root / "classes.txt").write_text("a\nb\nc\n")
    assert load_folder(root).classes == ("a", "b", "c")


def test_a_table_of_roboflow_with_gaps_or_contradictions_is_refused(tmp_path):
    root = write_roboflow(tmp_path / "a", "Pixel Value, Class\n0, background\n2, dog\n")
    assert any("_classes.csv: classes must be numbered from 0 without gaps" in line for line in find_problems(root))
    root = write_roboflow(tmp_path / "b")
    (root / "val" / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, dog\n2, cat\n")
    assert any("each with one name in all files" in line for line in find_problems(root))
    root = write_roboflow(tmp_path / "c", "filename, cat, dog\na.jpg, 1, 0\n")  # of another kind of export
    assert load_folder(root).classes == ("class_0", "class_1", "class_2")
