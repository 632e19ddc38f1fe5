"""Decoded images and masks on disk, memory-mapped: shared by all workers, never entirely in memory.

A store is a folder with three files:

    images.bin   uint8 or little-endian uint16, one image after the other, each (H, W, channels) in C order
    masks.bin    uint8, one mask after the other, each (H, W) in C order: class indices, or the bits of the classes of
                 a multi-label task (`core/label_planes.py`), then little-endian uint16 to uint64 for more than 7;
                 the largest number, 255 in uint8, = ignore
    index.json   {"format": 2, "channels": C, "sizes": [[H, W], …], "crc32": {"images.bin": …, "masks.bin": …}}, and
                 "dtype" and "mask_dtype" of images and masks that are not uint8; written last

A folder becomes a store by one rename, so that readers see the whole store or none.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
import uuid
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from sweeper.core.errors import SweeperError
from sweeper.core.label_planes import LabelMap, get_ignored_label
from sweeper.core.records import IGNORE

Pixels = npt.NDArray[np.uint8]
ImagePixels = npt.NDArray[np.uint8 | np.uint16]

FORMAT = 2
_FILES = ("images.bin", "masks.bin")
_TYPES = {"dtype": ("uint8", "uint16"), "mask_dtype": ("uint8", "uint16", "uint32", "uint64")}
_CHUNK = 1 << 24
_COUNTED = 1 << 22
"""Pixels counted at a time."""
_WALKED = 64
"""Images after which memory is released."""
_SAMPLE = 1 << 20
"""Pixels for the percentiles of an image; of a larger one every n-th row is used, fewer than twice this number."""


class PixelStore:
    """Read-only views of the decoded pixels of one data set; cheap to open, safe to share between processes."""

    def __init__(
        self,
        folder: Path,
        channels: int,
        sizes: Sequence[tuple[int, int]],
        dtype: np.dtype[Any],
        mask_dtype: np.dtype[Any],
    ) -> None:
        self.folder = folder
        self.channels = channels
        self.dtype = dtype
        """Type of the images: uint8, or uint16 if every image has 16 bits."""
        self.mask_dtype = mask_dtype
        """Type of the masks: uint8, or a wider one for the bits of more than 7 classes."""
        self.ignored_label = get_ignored_label(mask_dtype)
        """Label of pixels without a class."""
        self.sizes = tuple(sizes)
        """(height, width) of each image, in pixels."""
        areas = np.array([height * width for height, width in self.sizes], dtype=np.int64)
        self._starts = np.concatenate([[0], areas.cumsum()])
        types = (self.dtype.newbyteorder("<"), self.mask_dtype.newbyteorder("<"))
        self._images: ImagePixels
        self._masks: LabelMap
        self._images, self._masks = (
            np.memmap(folder / name, dtype=kind, mode="r").view(np.ndarray)
            for name, kind in zip(_FILES, types, strict=True)
        )

    def __len__(self) -> int:
        return len(self.sizes)

    def get_image(self, index: int) -> ImagePixels:
        """Return image `index` as a read-only view, (H, W, channels) of the store's dtype."""
        image: ImagePixels = self._get_pixels(self._images, index, self.channels)
        return image

    def get_view(self, index: int) -> Pixels:
        """Return image `index` for display, (H, W, 1 or 3) uint8.

        An 8-bit grey or RGB image is unchanged. Of any other the first three channels are used (of two only the first),
        scaled together so that their 1st and 99th percentiles become 0 and 255.
        """
        image = self.get_image(index)
        if image.dtype == np.uint8 and self.channels in (1, 3):
            return image  # type: ignore[return-value]
        shown = image[:, :, :3] if self.channels >= 3 else image[:, :, :1]
        rows = max(1, len(shown) * shown.shape[1] // _SAMPLE)
        low, high = np.percentile(shown[::rows], (1, 99))
        scaled = (shown.astype(np.float32) - low) * (255 / max(1.0, high - low))
        view: Pixels = scaled.clip(0, 255).astype(np.uint8)
        return view

    def get_mask(self, index: int) -> Any:
        """Return mask `index` as a read-only view, (H, W) of `mask_dtype`: class indices, or bits of classes."""
        return self._get_pixels(self._masks, index, 1)[:, :, 0]

    def _get_pixels(self, pixels: Any, index: int, channels: int) -> Any:
        """Return a view of one image's pixels, (H, W, channels).

        Raises:
            SweeperError: the file is truncated; reading past its end would kill the process (SIGBUS).
        """
        if pixels.base._mmap.size() < pixels.nbytes:
            raise SweeperError(f"the decoded images in {self.folder} were cut short; load the data set again")
        start, stop = int(self._starts[index]), int(self._starts[index + 1])
        return pixels[start * channels : stop * channels].reshape(*self.sizes[index], channels)

    def release_memory(self) -> None:
        """Release the memory of pages read so far; views stay valid, and their pages are read again on use.

        The system may keep the pages in its cache.
        """
        for view in (self._images, self._masks):
            if hasattr(mmap, "MADV_DONTNEED"):
                view.base._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[union-attr]

    def walk_indices(self) -> Iterator[int]:
        """Yield each index, for a pass through a large set; memory of earlier images is released now and then."""
        for index in range(len(self)):
            if index % _WALKED == 0:
                self.release_memory()
            yield index


class StoreWriter:
    """Writes a store image by image into a temporary folder next to its destination.

    It is a context manager that deletes the folder at the end, unless it was published; so does an exception, as of a
    signal, before the `with` block is entered.
    """

    def __init__(
        self, cache: Path, channels: int, dtype: npt.DTypeLike = np.uint8, mask_dtype: npt.DTypeLike = np.uint8
    ) -> None:
        self.cache = cache
        cache.mkdir(parents=True, exist_ok=True)
        # tempfile would make it private, and other users of the cache could not read it.
        self.folder = cache / f".writing-{uuid.uuid4().hex}"
        self._remove = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self.folder.mkdir()
        self.channels = channels
        self.dtype, self.mask_dtype = np.dtype(dtype), np.dtype(mask_dtype)
        self._sizes: list[tuple[int, int]] = []
        self._sums = dict.fromkeys(_FILES, 0)
        self._images: BinaryIO = (self.folder / "images.bin").open("wb")
        self._masks: BinaryIO = (self.folder / "masks.bin").open("wb")

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._images.close()
        self._masks.close()
        self._remove()

    def append(self, image: ImagePixels, mask: LabelMap) -> None:
        """Add one image, (H, W, channels) of the store's dtype, with its mask, (H, W) of its mask_dtype."""
        pixels = np.ascontiguousarray(image, dtype=self.dtype.newbyteorder("<"))
        labels = np.ascontiguousarray(mask, dtype=self.mask_dtype.newbyteorder("<"))
        for name, file, array in zip(_FILES, (self._images, self._masks), (pixels, labels), strict=True):
            data = array.reshape(-1).view(np.uint8).data
            self._sums[name] = zlib.crc32(data, self._sums[name])
            file.write(data)
        self._sizes.append((mask.shape[0], mask.shape[1]))

    def finish(self) -> PixelStore:
        """Write the index and open the store; nothing can be appended afterwards."""
        self._images.close()
        self._masks.close()
        self._write_index()
        return PixelStore(self.folder, self.channels, self._sizes, self.dtype, self.mask_dtype)

    def _write_index(self) -> None:
        index: dict[str, object] = {"format": FORMAT, "channels": self.channels, "sizes": self._sizes}
        types = {"dtype": self.dtype.name, "mask_dtype": self.mask_dtype.name}
        index |= {key: name for key, name in types.items() if name != "uint8"}
        (self.folder / "index.json").write_text(json.dumps(index | {"crc32": self._sums}), encoding="utf-8")

    def relabel(self, convert: Callable[[LabelMap], LabelMap], mask_dtype: npt.DTypeLike = np.uint8) -> None:
        """Replace all labels, (n,), by what `convert` makes of them, in this type; call it after `finish`."""
        path, checksum = self.folder / "masks.bin", 0
        labels: LabelMap = np.memmap(path, dtype=self.mask_dtype.newbyteorder("<"), mode="r").view(np.ndarray)
        self.mask_dtype = np.dtype(mask_dtype)
        with path.with_suffix(".new").open("wb") as file:
            for start in range(0, len(labels), _CHUNK):
                part = convert(labels[start : start + _CHUNK]).astype(self.mask_dtype.newbyteorder("<"))
                checksum = zlib.crc32(part.data, checksum)
                file.write(part.data)
        path.with_suffix(".new").replace(path)
        self._sums["masks.bin"] = checksum
        self._write_index()

    def publish(self, name: str) -> Path:
        """Rename the finished folder to `cache / name` and return its path; an equal store of another process is kept.

        A damaged store of that name is deleted first; its readers keep their open maps.
        """
        target = self.cache / name
        for _ in range(10):  # another process may be faster
            if is_intact(target):
                return target
            shutil.rmtree(target, ignore_errors=True)
            with suppress(OSError):
                return self.folder.rename(target)
        raise SweeperError(f"the decoded images cannot be put at {target}; delete that folder and try again")


def open_store(folder: str | Path) -> PixelStore:
    """Open the store in `folder`, without verifying the checksums (see `is_intact`).

    Raises:
        SweeperError: if the folder is not a complete store.
    """
    folder = Path(folder)
    layout = _read_layout(folder)
    if layout is None:
        raise SweeperError(f"{folder} must hold a complete store of decoded images; load the data set again")
    return PixelStore(folder, *layout[:4])


def is_complete(folder: Path) -> bool:
    """Return whether `folder` contains a store whose files have the sizes in its index."""
    return _read_layout(folder) is not None


def is_intact(folder: Path) -> bool:
    """Return whether `folder` contains a complete store that matches its checksums; all files are read."""
    layout = _read_layout(folder)
    if layout is None:
        return False
    try:
        return all(_compute_checksum(folder / name) == expected for name, expected in layout[4].items())
    except OSError:
        return False


def is_changed(folder: Path) -> bool:
    """Return whether an existing store differs from what was written; False if it is missing."""
    return folder.exists() and not is_intact(folder)


def _compute_checksum(path: Path) -> int:
    """Compute the CRC-32 of a whole file."""
    checksum = 0
    with path.open("rb") as file:
        while part := file.read(_CHUNK):
            checksum = zlib.crc32(part, checksum)
    return checksum


_Layout = tuple[int, list[tuple[int, int]], np.dtype[Any], np.dtype[Any], dict[str, int]]


def _read_layout(folder: Path) -> _Layout | None:
    """Return channels, sizes, types and checksums from the index; None if it does not fit the files."""
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        if index["format"] != FORMAT:
            return None
        sums = {name: int(index["crc32"][name]) for name in _FILES}
        channels = int(index["channels"])
        types = [np.dtype(known[known.index(index.get(key, "uint8"))]) for key, known in _TYPES.items()]
        sizes = [(int(height), int(width)) for height, width in index["sizes"]]
        file_sizes = [os.stat(folder / name).st_size for name in _FILES]  # noqa: PTH116
    except (OSError, ValueError, KeyError, TypeError):
        return None
    area = sum(height * width for height, width in sizes)
    expected = [area * size * kind.itemsize for size, kind in zip((channels, 1), types, strict=True)]
    return (channels, sizes, *types, sums) if area and file_sizes == expected else None  # type: ignore[return-value]


def count_labels(mask: LabelMap, planes: int = 0) -> npt.NDArray[np.int64]:
    """Count the pixels of each label, (256,), in parts, as numpy converts to numbers of eight bytes.

    `planes`: number of classes whose bits the labels are; then the numbers of class c are at c + 1, and those of pixels
    without a class at 0.
    """
    flat, total = mask.ravel(), np.zeros(256, dtype=np.int64)
    ignored = get_ignored_label(mask.dtype)
    for start in range(0, len(flat), _COUNTED):
        part = flat[start : start + _COUNTED]
        if not planes:
            total += np.bincount(part, minlength=256)
            continue
        total[[0, IGNORE]] += (part == 0).sum(), (part == ignored).sum()
        total[1 : planes + 1] += [np.count_nonzero(part >> bit & 1) for bit in range(planes)]
    total[1 : planes + 1] -= total[IGNORE]
    return total


def compute_pixel_hash(array: npt.NDArray[Any]) -> str:
    """Compute the SHA-256 of pixels with their shape (and type, unless uint8), as hexadecimal."""
    kind = "" if array.dtype == np.uint8 else array.dtype.name
    digest = hashlib.sha256((str(array.shape) + kind).encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def compute_content_digest(
    classes: Sequence[str], hashes: Iterable[tuple[str, str]], sides: Iterable[tuple[str | None, str | None]]
) -> str:
    """Compute `sha256:…` of all that can change a result: classes, and each image's pixels, mask, split and group."""
    rows = [[*pixels, *side] for pixels, side in zip(hashes, sides, strict=True)]
    text = json.dumps([list(classes), rows], ensure_ascii=True)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
