"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def exclude_option(default: str) -> Decorator:
    """`--exclude FILE`; `default` says what holds without it."""
    return click.option(
        "--exclude",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help=f"Text file with the stems of pictures to leave out, one per line.  [default: {default}]",
    )


def resize_option(default: str) -> Decorator:
    """`--resize SHORT_SIDE`; `default` says what holds without it."""
    return click.option(
        "--resize",
        type=click.IntRange(16),
        metavar="SHORT_SIDE",
        help="Shrink larger pictures to this shorter side in pixels; scores hold at that resolution.  "
        f"[default: {default}]",
    )
