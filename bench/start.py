"""Measure how long the command line takes: `sweeper --help`, and `sweeper run` up to its first training step.

    python bench/start.py [--data synthetic:cracks] [--repetitions 5]

Prints the median seconds with the range: of `sweeper --help`; of `sweeper run` in an empty folder; and of `sweeper run`
where an earlier run has made the store and both databases. The time ends when the first evaluation of a training that
is evaluated after each of its four steps is reported, a little after the first step. Takes a minute or two.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUN_COMMAND = [sys.executable, "-m", "sweeper", "run", "--trials", "2", "--steps", "4", "--seeds", "1", "-v"]


def time_help() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "sweeper", "--help"], check=True, capture_output=True)
    return time.perf_counter() - began


def time_first_step(data: str, folder: Path) -> float:
    """Return the seconds until the first evaluation is reported; then end the command."""
    began = time.perf_counter()
    with subprocess.Popen([*RUN_COMMAND, data], cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if " step 1:" in line:
                seconds = time.perf_counter() - began
                process.terminate()
                process.stderr.read()
                return seconds
    raise SystemExit("no training began:\n" + "".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="synthetic:cracks")
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    data = arguments.data if arguments.data.startswith("synthetic:") else str(Path(arguments.data).resolve())
    time_help()
    helps = [time_help() for _ in range(arguments.repetitions)]
    print(f"sweeper --help: {statistics.median(helps):.2f} s ({min(helps):.2f}–{max(helps):.2f})")
    with tempfile.TemporaryDirectory() as name:
        cold = time_first_step(data, Path(name))
        warm = [time_first_step(data, Path(name)) for _ in range(arguments.repetitions)]
    print(f"sweeper run to its first step, in an empty folder: {cold:.1f} s")
    print(
        f"sweeper run to its first step, with store and databases: {statistics.median(warm):.1f} s "
        f"({min(warm):.1f}–{max(warm):.1f})"
    )


if __name__ == "__main__":
    main()
