"""Measure the most memory that a sweep takes, parent and workers together (Linux).

    python bench/memory.py DATA [options of sweeper run]

Samples the memory twice a second, and prints the highest sums over all processes of PSS and of RSS, and the highest
number of processes. PSS counts a page that n processes share as 1/n in each, so its sum is what the machine has to
provide; RSS counts it in full in each. Takes as long as the sweep.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def list_processes(root: int) -> list[int]:
    """Return a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    processes = [root]
    for process in processes:
        processes += children.get(process, [])
    return processes


def read_memory(process: int) -> tuple[int, int]:
    """Return PSS and RSS in KiB; 0 for a process that has ended."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0, 0
    values = {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines()[1:]}
    return values.get("Pss", 0), values.get("Rss", 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    arguments, options = parser.parse_known_args()
    data = arguments.data if arguments.data.startswith("synthetic:") else str(Path(arguments.data).resolve())
    most_pss = most_rss = most_processes = 0
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "sweeper", "run", data, *options]
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None:
                sizes = [read_memory(each) for each in list_processes(process.pid)]
                most_pss = max(most_pss, sum(pss for pss, _ in sizes))
                most_rss = max(most_rss, sum(rss for _, rss in sizes))
                most_processes = max(most_processes, sum(pss > 0 for pss, _ in sizes))
                time.sleep(0.5)
    print(f"at most {most_pss / 2**20:.2f} GiB PSS, {most_rss / 2**20:.2f} GiB RSS, {most_processes} processes")
    sys.exit(process.returncode)


if __name__ == "__main__":
    main()
