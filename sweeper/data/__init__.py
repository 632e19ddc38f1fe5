"""Pictures and masks in; a `Dataset`, its decoded pixels and its splits out."""

from sweeper.data.load import load_dataset
from sweeper.data.split import divide, stratified_subset
from sweeper.data.store import PixelStore, open_store
from sweeper.data.synthetic import write_scenes

__all__ = ["PixelStore", "divide", "load_dataset", "open_store", "stratified_subset", "write_scenes"]
