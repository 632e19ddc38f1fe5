"""A sweep against the loop people write, on the same images: alternating runs in fresh processes, ratios, mIoU.

    python bench/sweep.py [--what fixed search] [--repetitions 3] [--against plain tuned prune ray] [--trials 50]

`fixed`: the same configurations trained to the end, no stopping, MLflow on. `search`: `--trials` trials to a
recommendation; ours is timed twice, to the end of its search and to the end of its confirmation, and reports the test
mIoU of what it recommends; the loop's is that of its best trial, chosen on one seed at 0.5. `prune` is the plain loop
with Optuna's MedianPruner, `ray` the same trainings under Ray Tune with ASHA (extra `ray`). `--workers` sets the
loop's DataLoader workers (0 was its best on 2 cores).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FIXED = 8
STEPS = 100


def scenes(folder: Path, images: int) -> Path:
    """Synthetic cracks as ordinary files, with the complete split.csv that both sides honour."""
    from sweeper.data import divide_images, load_dataset
    from sweeper.data.synthetic import write_scenes

    data = folder / "cracks"
    write_scenes(f"cracks?images={images}", data)
    dataset = load_dataset(str(data), folder / "cache", lambda line: None)
    split = divide_images(dataset, test_seed=0, seed=0)
    sides = {i: side for side in ("train", "val", "test") for i in getattr(split, side)}
    with (data / "split.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["stem", "split"])
        writer.writerows([p.stem, sides[i]] for i, p in enumerate(dataset.images))
    return data


def plain(data: Path, folder: Path, *options: str, script: str = "plain_loop.py") -> dict[str, Any]:
    """Run bench/plain_loop.py, or bench/ray_tune.py, once in a fresh process."""
    command = [sys.executable, str(HERE / script), str(data), *options]
    began = time.perf_counter()
    done = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the plain loop failed:\n{done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**answer, "wall": time.perf_counter() - began}


def ours_fixed(data: Path, folder: Path) -> dict[str, Any]:
    """Run the configurations of `plain_loop.fixed_trials` on our executor with tracking, in a fresh process."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(HERE / "fixed.py"), str(data), str(FIXED), str(STEPS)],
        check=False,
        cwd=folder,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"our fixed trials failed:\n{done.stderr}")
    return {**json.loads(done.stdout.splitlines()[-1]), "wall": time.perf_counter() - began}


def ours_search(data: Path, folder: Path, trials: int) -> dict[str, Any]:
    """`sweeper run` in a fresh process; the end of its search is read from the study."""
    import optuna

    name = f"bench{int(time.time())}"
    start, began = datetime.now(UTC), time.perf_counter()
    command = [sys.executable, "-m", "sweeper", "run", "--data", str(data), "--trials", str(trials), "--study", name]
    done = subprocess.run([*command, "--json"], check=False, cwd=folder, capture_output=True, text=True)
    wall = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"sweeper failed:\n{done.stderr}")
    answer = json.loads(done.stdout)
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{folder / 'sweeper.db'}")
    last = max(t.datetime_complete for t in study.get_trials() if t.datetime_complete).astimezone(UTC)
    family = answer["recommended"]["family"]
    miou = next(f["test"]["miou"] for f in answer["finalists"] if f["family"] == family)
    return {
        "wall": wall,
        "search": (last - start).total_seconds(),
        "test_miou": miou,
        "verdict": f"{answer['verdict']}: {family}",
        "study": name,
    }


def paired(folder: Path, study: str, best: dict[str, Any]) -> dict[str, Any]:
    """Return the recommended minus the loop's best configuration, on the same seeds, steps and test images."""
    command = [sys.executable, str(HERE / "paired.py"), study, json.dumps(best)]
    done = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the paired trainings failed:\n{done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])[0]
    return answer


def row(name: str, ours: list[float], theirs: list[float]) -> str:
    """Medians and the ratio pair by pair."""
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    return (
        f"{name:44} {statistics.median(ours):8.1f} s {statistics.median(theirs):8.1f} s "
        f"{statistics.median(ratios):6.2f}×  ({min(ratios):.2f}–{max(ratios):.2f})"
    )


def flags() -> str:
    """Return the processor's name and its relevant vector instructions."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    found = {line.split(":")[0].strip(): line.split(":", 1)[1].split() for line in text.splitlines() if ":" in line}
    kinds = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in found.get("flags", [])]
    return f"{' '.join(found.get('model name', ['unknown processor']))}: {', '.join(kinds) or 'no vector flags known'}"


def mean(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f} ({min(values):.3f}–{max(values):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", nargs="+", choices=["fixed", "search"], default=["fixed", "search"])
    parser.add_argument("--against", nargs="+", choices=["plain", "tuned", "prune", "ray"], default=["plain"])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--workers", type=int, default=0)
    arguments = parser.parse_args()
    loader = ["--loader-workers", str(arguments.workers), "--steps", str(STEPS)]
    options = {
        "plain": loader,
        "tuned": ["--tuned", *loader],
        "prune": ["--prune", *loader],
        "ray": ["--steps", str(STEPS)],
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = scenes(folder, arguments.images)
        print(f"{len(os.sched_getaffinity(0))} cores ({flags()}); alternating repetitions: {arguments.repetitions}")
        print(f"{'':44} {'sweeper':>10} {'loop':>10}")
        if "fixed" in arguments.what:
            ours, theirs = [], {kind: [] for kind in arguments.against if kind in {"plain", "tuned"}}
            for _ in range(arguments.repetitions):
                ours.append(ours_fixed(data, folder))
                for kind, runs in theirs.items():
                    runs.append(plain(data, folder, "--fixed", str(FIXED), *options[kind]))
            for kind, runs in theirs.items():
                pair = [r["wall"] for r in ours], [r["wall"] for r in runs]
                print(row(f"{FIXED} fixed configurations, against {kind}", *pair))
            print(
                f"  ms a step: ours {statistics.median(r['ms_per_step'] for r in ours):.0f} on each of 2 workers; ",
                end="",
            )
            print("; ".join(f"{k} {statistics.median(r['ms_per_step'] for r in v):.0f}" for k, v in theirs.items()))
            print(f"  best validation mIoU at 0.5: ours {mean([r['val_miou'] for r in ours])}; ", end="")
            print("; ".join(f"{k} {mean([r['val_miou'] for r in v])}" for k, v in theirs.items()))
        if "search" in arguments.what:
            found, loops = [], {kind: [] for kind in arguments.against}
            for repetition in range(arguments.repetitions):
                found.append(ours_search(data, folder, arguments.trials))
                for kind, runs in loops.items():
                    seed = ["--seed", str(repetition), "--trials", str(arguments.trials)]
                    script = "ray_tune.py" if kind == "ray" else "plain_loop.py"
                    runs.append(plain(data, folder, *options[kind], *seed, script=script))
            for kind, runs in loops.items():
                walls = [r["wall"] for r in runs]
                print(row(f"search of {arguments.trials} trials, against {kind}", [r["search"] for r in found], walls))
                print(row(f"recommendation, against {kind}'s search", [r["wall"] for r in found], walls))
                print(
                    f"  test mIoU: ours {mean([r['test_miou'] for r in found])}; "
                    f"{kind} {mean([r['test_miou'] for r in runs])}"
                )
                for ours_run, run in zip(found, runs, strict=True):
                    gap = paired(folder, ours_run["study"], run["best"])
                    print(f"  against {run['best']}, trained as ours on {gap['seeds']} seeds, test mIoU: ", end="")
                    print(
                        "; ".join(
                            f"{at} {gap[at]['mean']:+.4f} (standard error {gap[at]['standard_error']:.4f})"
                            for at in ("tuned", "at 0.5")
                        ),
                        flush=True,
                    )
            print(f"  verdicts: {'; '.join(r['verdict'] for r in found)}")


if __name__ == "__main__":
    main()
