"""Recognise folders that cannot be read: another tool's export, broken links, or only one of two folders.

Tools are recognised by words in their files, which are searched but not parsed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from sweeper.data.formats.base import DataSource, list_subfolders
from sweeper.data.formats.sides import IMAGE_FOLDERS, MASK_FOLDERS
from sweeper.data.label_values import abbreviate
from sweeper.data.open_image import WRITE_PAGES, read_tiff
from sweeper.data.text_tables import POINTER, POINTER_STEP, read_beginning

_LOOKED_AT = 1 << 18
_SOME = 50
"""Most files opened for each tool."""
_COCO = "export it again as COCO"
_YAML = r"printf 'train: images\nnames: [object]\n' > data.yaml"
_TWO_FILES = rb"(?i)\.(png|jpe?g|bmp|tiff?|gif|webp)\"?[,;\t|].*\.(png|jpe?g|bmp|tiff?|gif|webp)\b"


class OtherTool(NamedTuple):
    """A tool's annotations, and the step that makes them readable."""

    name: str
    suffixes: str
    """Suffixes of its files, separated by spaces."""
    words: tuple[bytes, ...]
    """Regular expressions that must all match in the beginning of a file."""
    step: str


TOOLS = (
    OtherTool(
        "a Git LFS pointer",
        ".json .csv .yaml .yml .txt .xml .ndjson .geojson",
        (rb"\A" + re.escape(POINTER),),
        POINTER_STEP.partition("; ")[2],
    ),
    OtherTool(
        "VIA's export", ".json .csv", (rb"shape_attributes",), 'in VIA, choose "Export Annotations (COCO format)"'
    ),
    OtherTool(
        "Supervisely's export", ".json", (rb'"classTitle"',), 'run its app "Export to COCO" or "Export as masks"'
    ),
    OtherTool(
        "CVAT's export", ".xml", (rb"<annotations", rb"<(image|track)\s"), f'{_COCO} 1.0 or "Segmentation mask 1.1"'
    ),
    OtherTool("Label Studio's export", ".json .csv", (rb'"original_width"',), f'{_COCO}, or "Brush labels to PNG"'),
    OtherTool("Labelbox's export", ".json .ndjson", (rb'"data_row"|"Labeled Data"',), "save its masks as PNG"),
    OtherTool("Datumaro's export", ".json", (rb'"items"', rb'"label_id"'), "run `datum convert -f coco` on it"),
    OtherTool(
        "Darwin's (V7) export", ".json", (rb'"annotations"', rb'"bounding_box"|darwin'), f'{_COCO} or "Semantic mask"'
    ),
    OtherTool("SuperAnnotate's export", ".json", (rb'"instances"', rb'"className"|"classId"'), _COCO),
    OtherTool("Hasty's export", ".json", (rb'"label_classes"|"export_format_version"',), _COCO),
    OtherTool(
        "BDD100K's (Scalabel) export",
        ".json",
        (rb'"poly2d"',),
        "use its masks, which are PNG: --images '**/images/10k/{train,val}/{stem}.jpg' "
        "--masks '**/labels/sem_seg/masks/{train,val}/{stem}.png'",
    ),
    OtherTool("Pascal VOC's boxes for detection", ".xml", (rb"<annotation", rb"<bndbox"), "draw polygons or masks"),
    OtherTool("an export of LabelMe's web site", ".xml", (rb"<annotation", rb"<polygon"), "save its masks as PNG"),
    OtherTool(
        "a table of run-length masks",
        ".csv",
        (rb"(?i)encoded_?pixels|\brle\b|_rle\b|[,;\t\"]\d+ \d+ \d+ \d+( \d+ \d+)*[\",;\t\r\n]",),
        "write one PNG for each image into masks/ (docs/formats.md#run-length-tables has the lines that do)",
    ),
    OtherTool(
        "YOLO's labels without data.yaml", ".txt", (rb"(?m)^\d+( [01]?\.\d+){6}",), f"run this next to images/: {_YAML}"
    ),
    OtherTool("GeoJSON (QuPath, QGIS)", ".geojson .json", (rb'"FeatureCollection"',), "export its shapes as masks"),
    OtherTool(
        "ImageScope's export",
        ".xml",
        (rb"<Annotations", rb"<Region"),
        "write PNGs into masks/ (docs/formats.md#imagescopes-regions has the lines that do)",
    ),
    OtherTool("a table of files", ".csv", (_TWO_FILES,), "call its columns image and mask (and split and group)"),
    OtherTool("ImageJ's regions", ".roi", (), "in ImageJ, open them on their image, Edit > Selection > Create Mask"),
    OtherTool("arrays", ".npz .mat", (), "write PNGs into masks/ (docs/formats.md#arrays has the lines that do)"),
    OtherTool("a volume", ".nii .nii.gz .nrrd .mha .dcm", (), "export its slices as PNG or TIFF, and their masks"),
    OtherTool(
        "Hugging Face's parquet",
        ".parquet",
        (rb"\APAR1",),
        "write PNGs into images/ and masks/ (docs/formats.md#parquet has the lines that do)",
    ),
    OtherTool("a compressed file", ".gz", (), "run this in the data folder: gunzip -r ."),
)


def find_broken_link(place: DataSource) -> Path | None:
    """Return the first file that is a link to nothing; None without one."""
    return next((path for path in place.files if path.is_symlink() and not path.exists()), None)


def recognise_export(place: DataSource) -> str | None:
    """Return the problem of a folder with another tool's annotations or a broken link; else None."""
    if (path := find_broken_link(place)) is not None:
        return f"{place.format_name(path)}: must be a file, found a link that leads nowhere; copy what it leads to"
    files = place.files if place.entry is None else [place.entry]
    for tool in TOOLS:
        for path in [path for path in files if path.name.lower().endswith((*tool.suffixes.split(),))][:_SOME]:
            start = read_beginning(path, _LOOKED_AT) if tool.words else b""
            if all(re.search(word, start) for word in tool.words):
                return f"{place.format_name(path)}: must be annotations that are read, found {tool.name}; {tool.step}"
    for path in [path for path in files if path.suffix.lower() in (".tif", ".tiff")][:_SOME]:
        if (header := read_tiff(path)) is not None and header.pages > 1:
            return f"{place.format_name(path)}: must be a single image, found {header.pages} pages; {WRITE_PAGES}"
    return None


def describe_missing(root: Path) -> str:
    """Return what is missing for image and mask folders if none are found, starting with a folder's name."""
    folders = [path for at in (root, *list_subfolders(root)) for path in list_subfolders(at)]
    images = next((path for path in folders if path.name.lower() in IMAGE_FOLDERS), None)
    masks = next((path for path in folders if path.name.lower() in MASK_FOLDERS), None)
    if images and masks:
        at, other = (path.relative_to(root).as_posix() for path in (images, masks))
        others = [path.relative_to(root).as_posix() for folder in (images, masks) for path in sorted(folder.iterdir())]
        found = f", found {abbreviate(others, 3)}" if others else ""
        return f"{other}/: holds no masks (png, bmp, tif, gif) of the images in {at}/{found}"
    if images or masks:
        path = (images or masks or root).relative_to(root)
        lacking = path.with_name("masks" if images else "images")
        return f"{lacking.as_posix()}/: is missing next to {path.as_posix()}/"
    return "images/ and masks/: are missing"
