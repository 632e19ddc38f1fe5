"""Compare the time and the result of a sweep with the loop that people usually write, on the same images.

    python bench/sweep.py [--what fixed search] [--repetitions 3] [--against plain tuned prune ray] [--trials 50]

Runs of both sides alternate, each in a fresh process, on generated images of cracks. Both train the same network (a
U-Net on ResNet-18 of depth 3, without pretrained weights) on the same crops and batches.

- `fixed`: both train the same configurations for the same steps, without stopping any, and log to MLflow. `prune` and
  `ray` have no part in it.
- `search`: both search `--trials` trials. sweeper is timed twice, at the end of its search and at the end of its
  confirmation. Its test mIoU is that of the recommended loss; the loop's is that of its best trial, at 0.5.

`plain` is bench/plain_loop.py, `tuned` has its option `--tuned`, `prune` Optuna's MedianPruner, `ray` Ray Tune with
ASHA (extra `ray`). `--workers` sets the workers of the loop's DataLoader; 0 was the fastest on two cores.

Prints seconds as medians, their ratios pair by pair with the range, milliseconds per step, mIoU with its range, and
after a search how the loop's best configuration scores if sweeper trains it on the seeds of its confirmation. A
repetition of `--what search --against plain prune ray` takes half an hour on two cores (docs/performance.md).
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

BENCH = Path(__file__).resolve().parent
CONFIGURATIONS = 8
STEPS = 100


def write_images(folder: Path, images: int) -> Path:
    """Write images of cracks with a complete split.csv, which both sides obey."""
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
        writer.writerows([image.stem, sides[i]] for i, image in enumerate(dataset.images))
    return data


def run_python(folder: Path, *words: str) -> tuple[str, float]:
    """Run Python with these words in a fresh process; return its standard output and the seconds."""
    began = time.perf_counter()
    run = subprocess.run([sys.executable, *words], check=False, cwd=folder, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{run.stderr}")
    return run.stdout, time.perf_counter() - began


def run_script(folder: Path, script: str, *words: str) -> dict[str, Any]:
    """Run a script of bench/; return the JSON document that it prints last, with `wall`, the seconds."""
    output, seconds = run_python(folder, str(BENCH / script), *words)
    return {**json.loads(output.splitlines()[-1]), "wall": seconds}


def run_sweeper(data: Path, folder: Path, trials: int) -> dict[str, Any]:
    """Run `sweeper run` in a fresh process; return its seconds, those of its search, test mIoU, answer and study."""
    import optuna

    name = f"bench{int(time.time())}"
    options = [str(data), "--trials", str(trials), "--study", name, "--encoder-weights", "none", "--json"]
    start = datetime.now(UTC)
    output, seconds = run_python(folder, "-m", "sweeper", "run", *options)
    document = json.loads(output)
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{folder / 'sweeper.db'}")
    last = max(t.datetime_complete for t in study.get_trials() if t.datetime_complete).astimezone(UTC)
    used = document["use"]["loss"]
    return {
        "wall": seconds,
        "search": (last - start).total_seconds(),
        "test_miou": next(row["mean"] for row in document["losses"] if row["loss"] == used),
        "answer": f"{document['outcome']}, {document['sure']}: {used}",
        "study": name,
    }


def format_times(name: str, ours: list[float], theirs: list[float]) -> str:
    """Return a line with both medians in seconds, and the ratio pair by pair."""
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    return (
        f"{name:44} {statistics.median(ours):8.1f} s {statistics.median(theirs):8.1f} s "
        f"{statistics.median(ratios):6.2f}×  ({min(ratios):.2f}–{max(ratios):.2f})"
    )


def format_mean(values: list[float]) -> str:
    """Return the mean with the range."""
    return f"{statistics.mean(values):.3f} ({min(values):.3f}–{max(values):.3f})"


def format_gap(gap: dict[str, float | None]) -> str:
    """Return a mean difference in mIoU with its standard error, which one seed does not have."""
    error = gap["standard_error"]
    return f"{gap['mean']:+.4f}" + ("" if error is None else f" (standard error {error:.4f})")


def describe_processor() -> str:
    """Return the processor's name and its relevant vector instructions (Linux)."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    fields = {line.split(":")[0].strip(): line.split(":", 1)[1].split() for line in text.splitlines() if ":" in line}
    flags = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in fields.get("flags", [])]
    return f"{' '.join(fields.get('model name', ['unknown processor']))}: {', '.join(flags) or 'no vector flags known'}"


def compare_fixed(data: Path, folder: Path, options: dict[str, list[str]], arguments: argparse.Namespace) -> None:
    """Print the times of the fixed configurations, milliseconds per step and the best validation mIoU."""
    count = str(CONFIGURATIONS)
    ours: list[dict[str, Any]] = []
    theirs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in arguments.against if kind in {"plain", "tuned"}}
    for _ in range(arguments.repetitions):
        ours.append(run_script(folder, "fixed.py", str(data), count, str(STEPS)))
        for kind, runs in theirs.items():
            runs.append(run_script(folder, "plain_loop.py", str(data), "--fixed", count, *options[kind]))
    for kind, runs in theirs.items():
        walls = [run["wall"] for run in ours], [run["wall"] for run in runs]
        print(format_times(f"{count} fixed configurations, against {kind}", *walls))
    paces, scores = [], []
    for kind, runs in {"ours": ours, **theirs}.items():
        paces.append(f"{kind} {statistics.median(run['ms_per_step'] for run in runs):.0f}")
        scores.append(f"{kind} {format_mean([run['val_miou'] for run in runs])}")
    print(f"  ms a step (ours: of one of several workers): {'; '.join(paces)}")
    print(f"  best validation mIoU at 0.5: {'; '.join(scores)}")


def compare_searches(data: Path, folder: Path, options: dict[str, list[str]], arguments: argparse.Namespace) -> None:
    """Print the times of search and answer, test mIoU, and how the loop's best scores if sweeper trains it."""
    ours: list[dict[str, Any]] = []
    theirs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in arguments.against}
    for repetition in range(arguments.repetitions):
        ours.append(run_sweeper(data, folder, arguments.trials))
        for kind, runs in theirs.items():
            script = "ray_tune.py" if kind == "ray" else "plain_loop.py"
            seed = ["--seed", str(repetition), "--trials", str(arguments.trials)]
            runs.append(run_script(folder, script, str(data), *options[kind], *seed))
    for kind, runs in theirs.items():
        walls = [run["wall"] for run in runs]
        print(format_times(f"search of {arguments.trials} trials, against {kind}", [r["search"] for r in ours], walls))
        print(format_times(f"answer, against {kind}'s search", [r["wall"] for r in ours], walls))
        scores = [format_mean([run["test_miou"] for run in side]) for side in (ours, runs)]
        print(f"  test mIoU: ours {scores[0]}; {kind} {scores[1]}")
        for our_run, run in zip(ours, runs, strict=True):
            output, _ = run_python(folder, str(BENCH / "paired.py"), our_run["study"], json.dumps(run["best"]))
            (pair,) = json.loads(output.splitlines()[-1])
            gaps = "; ".join(f"{point} {format_gap(pair[point])}" for point in ("tuned", "at 0.5"))
            print(f"  over {run['best']}, trained as ours on {pair['seeds']} seeds, test mIoU: {gaps}", flush=True)
    print(f"  answers: {'; '.join(run['answer'] for run in ours)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", nargs="+", choices=["fixed", "search"], default=["fixed", "search"])
    parser.add_argument("--against", nargs="+", choices=["plain", "tuned", "prune", "ray"], default=["plain"])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--workers", type=int, default=0, help="of the loop's DataLoader")
    arguments = parser.parse_args()
    loop = ["--loader-workers", str(arguments.workers), "--steps", str(STEPS)]
    options = {"plain": loop, "tuned": ["--tuned", *loop], "prune": ["--prune", *loop], "ray": ["--steps", str(STEPS)]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = write_images(folder, arguments.images)
        print(f"{len(os.sched_getaffinity(0))} cores ({describe_processor()}); {arguments.repetitions} repetitions")
        print(f"{'':44} {'sweeper':>10} {'loop':>10}")
        if "fixed" in arguments.what:
            compare_fixed(data, folder, options, arguments)
        if "search" in arguments.what:
            compare_searches(data, folder, options, arguments)


if __name__ == "__main__":
    main()
