"""What losses want of the labels beside the labels, kept beside the decoded pixels and computed once for each image.

For a store in the folder S the maps of a kind lie in `S/KIND-FORMAT-FIRST-LAST/` (the labels they are of), one file
`INDEX.npy` per image: (C, H, W). A store's folder is named by the content of its masks, so that a map can never be that
of other labels. Files are made when they are first asked for, written beside their place and renamed: readers see all
of a file or none, and two processes that make the same one write the same bytes. The last four bytes of a file are the
CRC-32 of all others.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sweeper.core.errors import SweeperError
from sweeper.data.store import Pixels, PixelStore, sum_of
from sweeper.system.whole_files import written_whole

_WHOLE = 0x2144DF1C
"""CRC-32 of any bytes that are followed by their own CRC-32."""


class MapStore:
    """Maps of the images of a store, memory-mapped; cheap to open, safe to share between processes."""

    kind: str
    """Name of the folder, and what the maps are, in the plural."""
    number = 2
    """Of the format: another for other numbers; format 1 had no checksum."""
    dtype: type[np.generic]

    def __init__(self, store: PixelStore, labels: tuple[int, ...]) -> None:
        """`labels`: class indices the maps are of, without a gap, in the order of their channels."""
        self._store, self.labels = store, labels
        self.folder = store.folder / f"{self.kind}-{self.number}-{labels[0]}-{labels[-1]}"
        self._open: dict[int, npt.NDArray[Any]] = {}

    @property
    def channels(self) -> int:
        """Maps of an image."""
        return 1

    def maps(self, index: int) -> npt.NDArray[Any]:
        """Maps of image `index`, (channels, H, W) of `dtype`, read-only; made at the first call.

        Raises:
            SweeperError: if they cannot be written.
        """
        if index not in self._open:
            path = self.folder / f"{index}.npy"
            found = self._read(path, index)
            if found is None:
                self._write(path, self.of_mask(self._store.mask(index)))
                found = self._read(path, index)
            if found is None:
                raise SweeperError(f"{path} must hold the {self.kind} just written there, and does not; delete it")
            self._open[index] = found
        return self._open[index]

    def of_mask(self, mask: Pixels) -> npt.NDArray[Any]:
        """Maps of one mask, (H, W) → (channels, H, W) of `dtype`."""
        raise NotImplementedError

    def _read(self, path: Path, index: int) -> npt.NDArray[Any] | None:
        """The file as a memory map; None where it is missing, damaged or of another shape."""
        if not _is_whole(path):
            return None
        try:
            # .view: a plain array is faster to slice than a memmap, and keeps the map open.
            found: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)
        except (OSError, ValueError, EOFError):
            return None
        wanted = (self.channels, *self._store.sizes[index])
        return found if found.shape == wanted and found.dtype == self.dtype else None

    def _write(self, path: Path, maps: npt.NDArray[Any]) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as part, part.open("x+b") as file:
                np.save(file, maps, allow_pickle=False)
                file.write(sum_of(file).to_bytes(4, "little"))
        except OSError as error:
            raise SweeperError(
                f"the {self.kind} of the labels, which a loss of this sweep needs, must be written to {path.parent}, "
                f"and that failed: {error}; make room, choose another --cache, or leave out the families that "
                "`sweeper losses NAME` says need them"
            ) from error


def changed_maps(folder: Path, beat: Callable[[], None] = lambda: None) -> list[str]:
    """Files of maps in the store `folder` that are not what was written; `beat` is called after each."""
    found = []
    for path in sorted(folder.glob(f"*-{MapStore.number}-*/*.npy")):
        if not _is_whole(path):
            found.append(path.relative_to(folder).as_posix())
        beat()
    return found


def _is_whole(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return sum_of(file) == _WHOLE
    except OSError:
        return False
