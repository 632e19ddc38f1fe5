"""The tests, and the environment of their processes: set before torch and NumPy are imported."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads that wait for each other take the core of what they wait for
os.environ.setdefault("SWEEPER_PRECISION", "float32")  # else each command would measure its steps
