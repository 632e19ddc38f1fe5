"""Import every worker's libraries once, in the process from which workers are forked; see executors/processes.py.

This module must not compute anything: threads and a GPU's state do not survive a fork.
"""

import gc
import signal
from contextlib import suppress

with suppress(Exception):  # a failing import ends, and is reported by, the worker that needs it, not the fork server
    import segmentation_models_pytorch  # noqa: F401

    import sweeper.training.worker  # noqa: F401

# Like the workers: the parent decides when they end.
for _name in ("SIGTERM", "SIGHUP"):
    if hasattr(signal, _name):
        signal.signal(getattr(signal, _name), signal.SIG_IGN)
gc.freeze()  # exclude the libraries' objects from garbage collections, which took 0.15 s after each training
