"""One small set of images, written in every format; each writer writes files and returns nothing."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from sweeper.core.records import Dataset
from tests.support.folders import list_masks

HEIGHT, WIDTH = 48, 64
CLASSES = ("background", "cat", "dog")
STEMS = tuple(f"p{i}" for i in range(8))
SIDES = ("train",) * 4 + ("val",) * 2 + ("test",) * 2
PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0]

Labels = npt.NDArray[np.uint8]


def boxes(index: int) -> list[tuple[int, int, int, int, int]]:
    """Return label, left, top, right, bottom (exclusive) of the objects of image `index`: a dog on a cat."""
    return [(1, 4 + index, 5, 40 + index, 30), (2, 10 + index, 10 + index, 24 + index, 24 + index)]


def truth(index: int) -> Labels:
    """Return the labels of image `index`."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    for label, left, top, right, bottom in boxes(index):
        mask[top:bottom, left:right] = label
    return mask


def photo(index: int) -> Image.Image:
    """Return image `index`: noise that is brighter in objects."""
    noise = np.random.default_rng(index).integers(0, 100, (HEIGHT, WIDTH, 3))
    return Image.fromarray((noise + 70 * truth(index)[..., None]).astype(np.uint8))


def palette(mask: Labels) -> Image.Image:
    """Return an index mask with colours."""
    image = Image.fromarray(mask)
    image.putpalette(PALETTE + [0] * 759)
    return image


def make_folders(*folders: Path) -> None:
    """Make folders."""
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)


def write_images(
    root: Path, images: str = "", masks: str = "", as_mask: Callable[[Labels], Image.Image] = Image.fromarray
) -> None:
    """Save images and masks at paths with {stem} and {side}, those that have a path."""
    for index, (stem, side) in enumerate(zip(STEMS, SIDES, strict=True)):
        for place, image in ((images, photo(index)), (masks, as_mask(truth(index)))):
            if place:
                path = root / place.format(stem=stem, side=side)
                make_folders(path.parent)
                image.save(path)


def classes_txt(root: Path) -> None:
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")


def folder(root: Path) -> None:
    write_images(root, "images/{stem}.png", "masks/{stem}.png")
    classes_txt(root)


def shapes(index: int) -> list[dict[str, Any]]:
    """Return shapes of LabelMe: a polygon, and a rectangle over it. Both draw their last row and column."""
    entries: list[dict[str, Any]] = []
    for label, left, top, right, bottom in boxes(index):
        points = [[left, top], [right - 1, bottom - 1]]
        if label == 1:
            points = [[left, top], [right - 1, top], [right - 1, bottom - 1], [left, bottom - 1]]
        kind = "polygon" if label == 1 else "rectangle"
        entries.append({"label": CLASSES[label], "points": points, "shape_type": kind, "group_id": None, "flags": {}})
    return entries


def labelme_json(path: Path, index: int, **changes: Any) -> None:
    """Write a LabelMe file."""
    data = {
        "version": "5.4.1",
        "flags": {},
        "shapes": shapes(index),
        "imagePath": f"{path.stem}.png",
        "imageData": None,
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
    }
    path.write_text(json.dumps(data | changes))


def labelme(root: Path) -> None:
    """Write a LabelMe set; the last image is inside its JSON."""
    write_images(root, "{stem}.png")
    for index, stem in enumerate(STEMS):
        labelme_json(root / f"{stem}.json", index)
    last = root / f"{STEMS[-1]}.png"
    labelme_json(last.with_suffix(".json"), len(STEMS) - 1, imageData=base64.b64encode(last.read_bytes()).decode())
    last.unlink()


def coco_data(**changes: Any) -> dict[str, Any]:
    """Return COCO's JSON of all images; the dog is first in the file, and is smaller."""
    images, annotations = [], []
    for index, stem in enumerate(STEMS):
        images.append({"id": index + 1, "file_name": f"{stem}.png", "height": HEIGHT, "width": WIDTH})
        for label, left, top, right, bottom in reversed(boxes(index)):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": 10 * label,
                    "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
                    "bbox": [left, top, right - left, bottom - top],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": 10 * n, "name": name, "supercategory": "animal"} for n, name in enumerate(CLASSES) if n]
    return {"images": images, "annotations": annotations, "categories": categories} | changes


def coco(root: Path) -> None:
    write_images(root, "images/{stem}.png")
    make_folders(root / "annotations")
    (root / "annotations" / "instances_default.json").write_text(json.dumps(coco_data()))


def voc(root: Path) -> None:
    """Write a VOC set with lists."""
    write_images(root, "JPEGImages/{stem}.png", "SegmentationClass/{stem}.png", palette)
    make_folders(root / "ImageSets" / "Segmentation")
    (root / "class_names.txt").write_text("\n".join(CLASSES) + "\n")
    for side in set(SIDES):
        listed = [stem for stem, stems_side in zip(STEMS, SIDES, strict=True) if stems_side == side]
        (root / "ImageSets" / "Segmentation" / f"{side}.txt").write_text("\n".join(listed) + "\n")


def yolo(root: Path) -> None:
    """Write a YOLO set as Roboflow exports it."""
    write_images(root, "{side}/images/{stem}.png")
    (root / "data.yaml").write_text(
        "train: ../train/images\nval: ../val/images\ntest: ../test/images\nnc: 2\nnames: ['cat', 'dog']\n"
    )
    for index, (stem, side) in enumerate(zip(STEMS, SIDES, strict=True)):
        lines = []
        for label, left, top, right, bottom in reversed(boxes(index)):
            corners = [left, top, right - 1, top, right - 1, bottom - 1, left, bottom - 1]
            shares = [value / (WIDTH, HEIGHT)[n % 2] for n, value in enumerate(corners)]
            lines.append(" ".join([str(label - 1), *(f"{share:.9f}" for share in shares)]))
        make_folders(root / side / "labels")
        (root / side / "labels" / f"{stem}.txt").write_text("\n".join(lines) + "\n")


def cityscapes(root: Path) -> None:
    town = "{side}/town/{stem}"
    write_images(root, f"leftImg8bit/{town}_leftImg8bit.png", f"gtFine/{town}_gtFine_labelIds.png")
    classes_txt(root)


def nnunet(root: Path) -> None:
    """Write an nnU-Net set with three channels in a file each."""
    make_folders(root / "imagesTr", root / "labelsTr")
    labels = {name: number for number, name in enumerate(CLASSES)}
    meta = {"channel_names": {"0": "R", "1": "G", "2": "B"}, "labels": labels, "numTraining": len(STEMS)}
    (root / "dataset.json").write_text(json.dumps({**meta, "file_ending": ".png"}))
    for index, stem in enumerate(STEMS):
        for number, band in enumerate(photo(index).split()):
            band.save(root / "imagesTr" / f"{stem}_{number:04d}.png")
        Image.fromarray(truth(index)).save(root / "labelsTr" / f"{stem}.png")


def manifest(root: Path) -> None:
    write_images(root, "a/{stem}.png", "b/{stem}_label.png")
    classes_txt(root)
    rows = [f"a/{s}.png,b/{s}_label.png,{side},g{i}" for i, (s, side) in enumerate(zip(STEMS, SIDES, strict=True))]
    (root / "manifest.csv").write_text("\n".join(["image,mask,split,group", *rows]) + "\n")


def pairs(root: Path) -> None:
    """Write Carvana's layout: `photos/p0.png` and `photos_masks/p0_mask.gif`."""
    write_images(root, "photos/{stem}.png", "photos_masks/{stem}_mask.gif")
    classes_txt(root)


FORMATS: dict[str, Callable[[Path], None]] = {
    "folder": folder,
    "labelme": labelme,
    "coco": coco,
    "voc": voc,
    "yolo": yolo,
    "cityscapes": cityscapes,
    "nnunet": nnunet,
    "manifest": manifest,
    "pairs": pairs,
}
"""Name of the format → function that writes the set in it."""


def deep(root: Path, channels: int, dtype: type[np.uint8] | type[np.uint16]) -> None:
    """Write image and mask folders with TIFFs of many channels or 16 bits, (H, W, channels)."""
    make_folders(root / "images", root / "masks")
    for index, stem in enumerate(STEMS):
        tifffile.imwrite(root / "images" / f"{stem}.tif", bands(index, channels, dtype), **layout(channels))
        Image.fromarray(truth(index)).save(root / "masks" / f"{stem}.png")


def bands(index: int, channels: int, dtype: type[np.uint8] | type[np.uint16]) -> npt.NDArray[Any]:
    """Return (H, W, channels), each channel with another scale; an object changes all of them."""
    scale = np.iinfo(dtype).max // 4
    rng = np.random.default_rng(index)
    values = rng.integers(0, scale, (HEIGHT, WIDTH, channels)) + scale * truth(index)[..., None].astype(np.int64)
    return (values // (1 + np.arange(channels))).astype(dtype)


def layout(channels: int) -> dict[str, Any]:
    """Return how tifffile is to write so many channels in one page."""
    plain = {"photometric": "rgb"} if channels == 3 else {"photometric": "minisblack"}
    return plain | ({"planarconfig": "contig"} if channels > 1 else {})


def has_true_masks(dataset: Dataset) -> bool:
    """Return whether each image has the labels that were drawn for its number."""
    return all(np.array_equal(mask, truth(index)) for index, mask in enumerate(list_masks(dataset)))
