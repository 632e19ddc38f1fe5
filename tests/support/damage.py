"""What a fault, a copy or a hand may leave in place of a small file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

DAMAGE: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": lambda path: (path / "x").mkdir(parents=True),
    "NaN": lambda path: path.write_text('{"seconds": NaN}'),
    "infinity": lambda path: path.write_text('{"seconds": {"x": {"float32": 1e999}}}'),
    "depth": lambda path: path.write_text("[" * 100_000),
}
