"""Imports of every worker, made once by the process that workers are forked from; see executors/processes.py.

Nothing may be computed here: threads and a GPU's state do not survive a fork.
"""

import gc
import signal
from contextlib import suppress

with suppress(Exception):  # what cannot be imported ends the worker that needs it, which is reported; not their server
    import segmentation_models_pytorch  # noqa: F401

    import sweeper.training.worker  # noqa: F401

# As the workers do: the parent decides when all of them end.
for _name in ("SIGTERM", "SIGHUP"):
    if hasattr(signal, _name):
        signal.signal(getattr(signal, _name), signal.SIG_IGN)
gc.freeze()  # what the libraries made is never searched for garbage: a collection after each training took 0.15 s
