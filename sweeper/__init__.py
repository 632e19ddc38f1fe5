"""sweeper: which loss to train a segmentation model with, on your own data, with evidence."""

from __future__ import annotations

from typing import Any

from sweeper.version import __version__

__all__ = ["Study", "__version__", "confirm", "judge", "load_study", "profile", "run"]


def __dir__() -> list[str]:
    """List what Python users call."""
    return __all__


def __getattr__(name: str) -> Any:
    """Import what Python users call at its first use, so that `sweeper --help` stays quick (PEP 562)."""
    if name in __all__:
        from sweeper import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
