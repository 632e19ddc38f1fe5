"""How long the command line takes: `sweeper --help`, and `sweeper run` up to its first training step.

    python bench/start.py [--data synthetic:cracks] [--repetitions 5]

The store and both databases are there already (a first run made them). The first step is taken to be done when the
first evaluation of a training with four evaluations in four steps is reported, which is a little later.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUN = [sys.executable, "-m", "sweeper", "run", "--trials", "2", "--steps", "4", "--confirm-seeds", "1", "-v", "--data"]


def help_seconds() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "sweeper", "--help"], check=True, capture_output=True)
    return time.perf_counter() - began


def first_step(data: str, folder: Path) -> float:
    """Return the seconds until the first evaluation is reported; what runs then is ended."""
    began = time.perf_counter()
    with subprocess.Popen([*RUN, data], cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = []
        for line in process.stderr:
            told.append(line)
            if " step 1:" in line:
                seconds = time.perf_counter() - began
                process.terminate()
                process.stderr.read()
                return seconds
    raise SystemExit("no training began:\n" + "".join(told))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="synthetic:cracks")
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    data = arguments.data if arguments.data.startswith("synthetic:") else str(Path(arguments.data).resolve())
    help_seconds()
    helps = [help_seconds() for _ in range(arguments.repetitions)]
    print(f"sweeper --help: {statistics.median(helps):.2f} s ({min(helps):.2f}–{max(helps):.2f})")
    with tempfile.TemporaryDirectory() as name:
        cold = first_step(data, Path(name))
        warm = [first_step(data, Path(name)) for _ in range(arguments.repetitions)]
    print(f"sweeper run to its first step, nothing there yet: {cold:.1f} s")
    print(
        f"sweeper run to its first step, warm store: {statistics.median(warm):.1f} s ({min(warm):.1f}–{max(warm):.1f})"
    )


if __name__ == "__main__":
    main()
