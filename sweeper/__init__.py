"""sweeper: which loss to train a segmentation model with, on your own data, with evidence."""

from sweeper.version import __version__

__all__ = ["__version__"]
