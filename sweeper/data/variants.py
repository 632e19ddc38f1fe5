"""A data set with shrunk images (`--resize SHORT_SIDE`), and the loss of labels.

Images are averaged by area, and masks get the label that covers most of each new pixel. All sums are of integers, so
that pixels and digest are the same on every machine. The set has its own digest and store; the user's files are not
changed. `store_here` makes the same set again if its decoded images are missing on this machine.
"""

from __future__ import annotations

import math
import socket
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from sweeper.core.errors import DataError, SweeperError
from sweeper.core.label_parts import label_components
from sweeper.core.label_planes import LabelMap, join_layers, list_layers
from sweeper.core.records import IGNORE, Dataset
from sweeper.core.text import format_count
from sweeper.data.formats.base import Size
from sweeper.data.label_values import Counts
from sweeper.data.load import Log, load_dataset, load_or_make
from sweeper.data.make_dataset import assemble
from sweeper.data.parallel import Tick, map_in_order
from sweeper.data.store import ImagePixels, Pixels, PixelStore, StoreWriter, count_labels, is_intact, open_store
from sweeper.data.text_tables import SplitAssignment

RESIZER = "area/2"
"""Raised when pixels or sentences change, so that cached sets are made again."""
LOST_SHARE = 0.1
"""Least share of a class's pixels or components whose loss causes a warning."""

_BLOCK = 1 << 22
"""Pixels summed at a time, as numbers of eight bytes."""


def resize_dataset(
    dataset: Dataset, short_side: int, cache: Path, tick: Tick = lambda done, every: None, log: Log = lambda line: None
) -> Dataset:
    """Return the data set with images shrunk to a shorter side of `short_side`; none is enlarged.

    Images are averaged by area, labels go by majority. `Dataset.warnings` says how many images were shrunk, and which
    classes lost `LOST_SHARE` or more of their share of the pixels or of their components; `Dataset.resized` is the
    side. The smaller store is put below `cache`; `log` is called with one line if it was damaged.

    Raises:
        DataError: fewer than two classes are left.
        UsageError: the cache cannot be written.
    """
    sizes = [compute_shrunk_size(image.height, image.width, short_side) for image in dataset.images]
    larger = [(p.height, p.width) != size for p, size in zip(dataset.images, sizes, strict=True)]
    if not any(larger):
        note = f"--resize {short_side} changes nothing: no image has a shorter side above {short_side} pixels."
        return dataset.model_copy(update={"resized": short_side, "warnings": (*dataset.warnings, note)})
    key = f"resize:{dataset.digest}:{short_side}"
    remembered = load_or_make(
        cache, key, RESIZER, lambda: _shrink_set(dataset, short_side, sizes, cache, tick), log=log
    )
    return dataset.model_copy(
        update={
            "digest": remembered.digest,
            "store": remembered.store,
            "images": remembered.images,
            "warnings": (*dataset.warnings, *(line for line in remembered.warnings if line not in dataset.warnings)),
            "resized": short_side,
        }
    )


def _shrink_set(dataset: Dataset, short_side: int, sizes: list[Size], cache: Path, tick: Tick) -> Dataset:
    source, numbers, planes = open_store(dataset.store), len(dataset.label_names), dataset.planes
    counts = np.zeros((len(source), numbers), dtype=np.int64)
    lost = np.zeros((numbers, 2), dtype=np.int64)

    with StoreWriter(cache, source.channels, source.dtype, source.mask_dtype) as writer:
        work = map_in_order(
            lambda index: _shrink_image(source, index, sizes[index], numbers, planes),
            range(len(source)),
            cost=lambda index: 16 * math.prod(source.sizes[index]),  # for sums and components, several per thread
        )
        for index, (image, mask, gone) in zip(source.walk_indices(), work, strict=True):
            writer.append(image, mask)
            lost += gone
            counts[index] = count_labels(mask, planes)[:numbers]
            tick(index + 1, len(source))
        left = np.flatnonzero(counts.sum(axis=0))
        if len(left) < 2:
            rule = f"--resize {short_side}: at least two classes must be left, found {len(left)}"
            raise DataError(dataset.name, [f"{rule}; choose a larger one"])
        first = bool(planes)
        lines = _format_losses(dataset, short_side, sizes, counts[:, first:], lost[first:])
        return assemble(
            writer,
            name=dataset.name,
            source=dataset.source,
            format_name=dataset.format,
            classes=dataset.classes,
            is_multilabel=dataset.planes > 0,
            stems=[image.stem for image in dataset.images],
            sides={image.stem: SplitAssignment(image.split, image.group) for image in dataset.images},
            turns={image.stem: image.open_turn for image in dataset.images},
            warnings=lines,
        )


def _shrink_image(
    source: PixelStore, index: int, size: Size, numbers: int, planes: int
) -> tuple[ImagePixels, LabelMap, Counts]:
    """Return image and mask after resizing, and the counts of `count_components_lost`."""
    image, mask = source.get_image(index), source.get_mask(index)
    if mask.shape == size:
        return image, mask, np.zeros((numbers, 2), dtype=np.int64)
    layers = list_layers(mask, planes)
    smaller = [shrink_mask(layer, size) for layer in layers]
    lost = [count_components_lost(*pair, numbers) for pair in zip(layers, smaller, strict=True)]
    return shrink_image(image, size), join_layers(smaller, planes), np.sum(lost, axis=0)


def count_components_lost(mask: Pixels, small: Pixels, classes: int) -> Counts:
    """Count each class's connected components (8-neighbourhood), and those lost, (classes, 2).

    A component is kept if the centre of one of its pixels is in a new pixel of its class, even if components merged.
    Class 0, taken for the background, is not counted: its row is 0.
    """
    counts = np.zeros((classes, 2), dtype=np.int64)
    kept = enlarge_mask(small, (mask.shape[0], mask.shape[1])) == mask
    for label in np.flatnonzero(np.bincount(mask.ravel(), minlength=256)[1:classes]) + 1:
        pieces, total = label_components(mask == label)
        counts[label] = total, total - np.count_nonzero(np.bincount(pieces[kept], minlength=total + 1)[1:])
    return counts


def _format_losses(
    dataset: Dataset, short_side: int, sizes: list[Size], after: Counts, components: Counts
) -> list[str]:
    """Return a sentence about the resizing, and one for each harmed class but the first, over the shrunk images.

    Each image counts by its new area, before and after, so that a class's share does not depend on the images' original
    sizes.
    """
    ratios = np.array([h * w / (p.height * p.width) for (h, w), p in zip(sizes, dataset.images, strict=True)])
    shrunk = ratios < 1
    area = sum(height * width for (height, width), is_shrunk in zip(sizes, shrunk, strict=True) if is_shrunk)
    pixels = np.array([image.pixels for image in dataset.images], dtype=np.float64)
    before, left = (pixels * ratios[:, None])[shrunk].sum(axis=0), after[shrunk].sum(axis=0)
    lines = [
        f"--resize shrank {np.count_nonzero(shrunk)} of {format_count(len(sizes), 'image')} to a shorter side of "
        f"{short_side} pixels: training and all scores hold at that resolution, not at the native one."
    ]
    for name, old, new, (total, gone) in zip(dataset.classes, before, left, components, strict=True):
        share = 1 - new / old if old else 0.0
        if total and max(share, gone / total) >= LOST_SHARE:
            lines.append(
                f"--resize {short_side} erases thin or small parts of class {name}: it has "
                f"{100 * new / area:.3g} % of the pixels instead of {100 * old / area:.3g} % "
                f"({100 * max(0.0, share):.0f} % of its share lost), and {gone} of its {total} connected components "
                f"are gone ({100 * gone / total:.0f} %). Neither training nor scores can know what is gone; choose a "
                "larger --resize, or leave it out (crops are cut at native resolution)."
            )
    return lines


def store_here(dataset: Dataset) -> Path:
    """Return the folder of the decoded images on this machine; if it is missing, decode the source again.

    Raises:
        SweeperError: neither can be read, or the source holds other images here.
    """
    folder = Path(dataset.store)
    if is_intact(folder):
        return folder
    host, cache = socket.gethostname(), folder.parent
    remedy = "put the images, or the current folder, where every machine sees them under one path"
    try:
        local = load_dataset(
            dataset.source,
            cache,
            format=dataset.format,
            patterns=dataset.patterns,
            class_map=dataset.class_map,
            groups=dataset.groups,
        )
        if dataset.resized is not None:
            local = resize_dataset(local, dataset.resized, cache)
    except (SweeperError, OSError) as error:
        raise SweeperError(
            f"{host} lacks the decoded images ({folder}) and cannot read {dataset.source}: {error}; {remedy}"
        ) from error
    if local.digest != dataset.digest:
        raise SweeperError(
            f"{dataset.source} holds other images on {host} ({local.digest[:19]}…) than the study was made with "
            f"({dataset.digest[:19]}…); {remedy}"
        )
    return Path(local.store)


def compute_shrunk_size(height: int, width: int, short_side: int) -> Size:
    """Return (height, width) with the shorter side `short_side` and the aspect kept, rounded half up; never larger."""
    shorter, longer = sorted((height, width))
    if shorter <= short_side:
        return height, width
    other = (2 * longer * short_side + shorter) // (2 * shorter)
    return (short_side, other) if height == shorter else (other, short_side)


def shrink_image(image: ImagePixels, size: Size) -> ImagePixels:
    """Return the area-weighted mean of the pixels that each new pixel covers, rounded half up: no aliasing.

    Args:
        image: (H, W, channels) uint8 or uint16.
        size: new height and width, at least 1 and at most H and W.

    Returns:
        (*size, channels) of the same dtype.
    """
    height, width, channels = image.shape
    area = height * width
    small: ImagePixels = np.empty((*size, channels), dtype=image.dtype)
    for channel in range(channels):
        small[:, :, channel] = (2 * _sum_covered(image[:, :, channel], size) + area) // (2 * area)
    return small


def shrink_mask(mask: Pixels, size: Size) -> Pixels:
    """Return the label that covers most of each new pixel.

    In a tie, the class with fewer pixels in this mask wins, so that thin structures survive halving; "no label" (255)
    always loses. (The nearest label would keep a class's share, but break thin structures into specks that the image
    does not show.)

    Args:
        mask: (H, W) uint8 labels.
        size: new height and width, at least 1 and at most H and W.
    """
    counts = np.bincount(mask.ravel(), minlength=256)
    present = sorted(map(int, np.flatnonzero(counts)), key=lambda label: (label == IGNORE, counts[label]))
    small: Pixels = np.full(size, present[0], dtype=np.uint8)
    most = np.full(size, -1, dtype=np.int64)
    for label in present:
        covered = _sum_covered(mask == label, size)
        wins = covered > most
        small[wins] = label
        most[wins] = covered[wins]
    return small


def enlarge_mask(small: Pixels, size: Size) -> Pixels:
    """Return for each old pixel the label of the new pixel at its centre: the inverse of `shrink_mask`."""
    rows, columns = ((2 * np.arange(old) + 1) * new // (2 * old) for old, new in zip(size, small.shape, strict=True))
    large: Pixels = small[rows[:, None], columns]
    return large


def _sum_covered(plane: npt.NDArray[np.uint8 | np.uint16 | np.bool_], size: Size) -> npt.NDArray[np.int64]:
    """Return Σ value · covered area for each new pixel, in units in which its area is H · W; (H, W) → size."""
    height, width = plane.shape
    rows, columns = compute_coverage(height, size[0]), compute_coverage(width, size[1])
    step = max(1, _BLOCK // height)
    halves = [rows @ plane[:, start : start + step].astype(np.int64) for start in range(0, width, step)]
    sums: npt.NDArray[np.int64] = (columns @ np.concatenate(halves, axis=1).T).T
    return sums


@lru_cache(maxsize=64)
def compute_coverage(old: int, new: int) -> csr_array:
    """Return how much of each old pixel each new one covers along a side, (new, old) int64; rows sum to old.

    A side is old · new units long: an old pixel takes `new` units, a new one `old`.
    """
    cuts = np.unique(np.concatenate([np.arange(new + 1) * old, np.arange(old + 1) * new]))
    start = cuts[:-1]
    return csr_array((np.diff(cuts), (start // old, start // new)), shape=(new, old))
