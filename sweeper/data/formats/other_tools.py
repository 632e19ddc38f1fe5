"""Recognise folders that cannot be read: another tool's export, or broken links.

Tools are recognised by words in their files, which are searched but not parsed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from sweeper.data.formats.base import DataSource
from sweeper.data.open_image import WRITE_PAGES, read_tiff
from sweeper.data.text_tables import POINTER, POINTER_STEP, point_to_lines, read_beginning

_LOOKED_AT = 1 << 18
_SOME = 50
"""Most files opened for each tool."""
_AGAIN = "export it again as COCO, or its masks as PNG"
_SLICES = "export its slices as PNG or TIFF, and their masks"
_YAML = r"printf 'train: images\nnames: [object]\n' > data.yaml"
_TWO_FILES = rb"(?i)\.(png|jpe?g|bmp|tiff?|gif|webp)\"?[,;\t|].*\.(png|jpe?g|bmp|tiff?|gif|webp)\b"
_RUNS = rb"(?i)encoded_?pixels|\brle\b|_rle\b|[,;\t\"]\d+ \d+ \d+ \d+( \d+ \d+)*[\",;\t\r\n]"


class OtherTool(NamedTuple):
    """A tool's annotations, and the step that makes them readable."""

    name: str
    suffixes: tuple[str, ...]
    words: tuple[bytes, ...] = ()
    """Regular expressions that must all match in the beginning of a file."""
    step: str = _AGAIN


def _make_step(section: str, folders: str = "masks/") -> str:
    return point_to_lines(f"write PNGs into {folders}", section)


TOOLS = (
    OtherTool(
        "a Git LFS pointer",
        (".json", ".csv", ".yaml", ".yml", ".txt", ".xml", ".ndjson", ".geojson"),
        (rb"\A" + re.escape(POINTER),),
        POINTER_STEP.partition("; ")[2],
    ),
    OtherTool("VIA's export", (".json", ".csv"), (rb"shape_attributes",)),
    OtherTool("Supervisely's export", (".json",), (rb'"classTitle"',)),
    OtherTool("CVAT's export", (".xml",), (rb"<annotations", rb"<(image|track)\s")),
    OtherTool("Label Studio's export", (".json", ".csv"), (rb'"original_width"',)),
    OtherTool("Labelbox's export", (".json", ".ndjson"), (rb'"data_row"|"Labeled Data"',)),
    OtherTool("Datumaro's export", (".json",), (rb'"items"', rb'"label_id"')),
    OtherTool("Darwin's (V7) export", (".json",), (rb'"annotations"', rb'"bounding_box"|darwin')),
    OtherTool("SuperAnnotate's export", (".json",), (rb'"instances"', rb'"className"|"classId"')),
    OtherTool("Hasty's export", (".json",), (rb'"label_classes"|"export_format_version"',)),
    OtherTool("BDD100K's (Scalabel) export", (".json",), (rb'"poly2d"',)),
    OtherTool("VOC's detection boxes", (".xml",), (rb"<annotation", rb"<bndbox"), "draw polygons or masks"),
    OtherTool("LabelMe's web export", (".xml",), (rb"<annotation", rb"<polygon")),
    OtherTool("run-length masks", (".csv",), (_RUNS,), _make_step("run-length-tables")),
    OtherTool("YOLO's labels alone", (".txt",), (rb"(?m)^\d+( [01]?\.\d+){6}",), f"run this next to images/: {_YAML}"),
    OtherTool("GeoJSON (QuPath, QGIS)", (".geojson", ".json"), (rb'"FeatureCollection"',)),
    OtherTool("ImageScope's export", (".xml",), (rb"<Annotations", rb"<Region"), _make_step("imagescopes-regions")),
    OtherTool("a file table", (".csv",), (_TWO_FILES,), "call its columns image and mask (and split and group)"),
    OtherTool("ImageJ's regions", (".roi",)),
    OtherTool("arrays", (".npz", ".mat"), (), _make_step("arrays")),
    OtherTool("a volume", (".nii", ".nii.gz", ".nrrd", ".mha", ".dcm"), (), _SLICES),
    OtherTool("Hugging Face's parquet", (".parquet",), (rb"\APAR1",), _make_step("parquet", "images/ and masks/")),
    OtherTool("a compressed file", (".gz",), (), "run this in the data folder: gunzip -r ."),
)


def find_broken_link(place: DataSource) -> Path | None:
    """Return the first file that is a link to nothing; None without one."""
    return next((path for path in place.files if path.is_symlink() and not path.exists()), None)


def recognise_export(place: DataSource) -> str | None:
    """Return the problem of a folder with another tool's annotations or a broken link; else None."""
    if (path := find_broken_link(place)) is not None:
        return f"{place.format_name(path)}: must be a file, found a link that leads nowhere; copy what it leads to"
    for tool in TOOLS:
        for path in place.list_candidates(*tool.suffixes)[:_SOME]:
            start = read_beginning(path, _LOOKED_AT) if tool.words else b""
            if all(re.search(word, start) for word in tool.words):
                return f"{place.format_name(path)}: must be annotations that are read, found {tool.name}; {tool.step}"
    for path in place.list_candidates(".tif", ".tiff")[:_SOME]:
        if (pages := read_tiff(path).pages) > 1:
            return f"{place.format_name(path)}: must be a single image, found {pages} pages; {WRITE_PAGES}"
    return None
