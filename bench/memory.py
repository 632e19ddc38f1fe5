"""The most memory that a sweep takes: parent and workers together, sampled twice a second (Linux).

    python bench/memory.py DATA [options of sweeper run]

PSS counts a page that n processes share as 1/n in each, so that the sum is what the machine has to give; RSS counts it
in full in each.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path


def tree(root: int) -> list[int]:
    """Return a process and all below it."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [root]
    for process in found:
        found += parents.get(process, [])
    return found


def memory(process: int) -> tuple[int, int]:
    """(PSS, RSS) in KiB; 0 for one that has ended."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0, 0
    values = {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines()[1:]}
    return values.get("Pss", 0), values.get("Rss", 0)


def main() -> None:
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    data = sys.argv[1] if sys.argv[1].startswith("synthetic:") else str(Path(sys.argv[1]).resolve())
    most = {"PSS": 0, "RSS": 0, "processes": 0}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "sweeper", "run", "--data", data, *sys.argv[2:]]
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None:
                sizes = [memory(one) for one in tree(process.pid)]
                most["PSS"] = max(most["PSS"], sum(pss for pss, _ in sizes))
                most["RSS"] = max(most["RSS"], sum(rss for _, rss in sizes))
                most["processes"] = max(most["processes"], sum(pss > 0 for pss, _ in sizes))
                time.sleep(0.5)
    print(
        f"at most {most['PSS'] / 2**20:.2f} GiB PSS, {most['RSS'] / 2**20:.2f} GiB RSS, {most['processes']} processes"
    )


if __name__ == "__main__":
    main()
