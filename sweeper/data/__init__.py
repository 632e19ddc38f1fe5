"""Read images and masks into a `Dataset`, its decoded pixels and its splits."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sweeper.data.split import divide_images, select_stratified_subset
from sweeper.data.store import PixelStore, open_store

if TYPE_CHECKING:
    from sweeper.data.load import load_dataset
    from sweeper.data.synthetic import write_scenes

__all__ = ["PixelStore", "divide_images", "load_dataset", "open_store", "select_stratified_subset", "write_scenes"]


def __getattr__(name: str) -> Any:
    """Import readers and scenes on first use: workers need only the store, and should start soon."""
    modules = {"load_dataset": "load", "write_scenes": "synthetic"}
    if name in modules:
        return getattr(import_module(f"{__name__}.{modules[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
