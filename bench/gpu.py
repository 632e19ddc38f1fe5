"""One command for a machine with a GPU: is it right there, and what does a training step cost?

    python bench/gpu.py OUT_FOLDER [--device cuda] [--tests] [--search] [--minutes 9] [--steps 60] [--repetitions 3]

- `--tests`: first `pytest -m cuda`; the table is made all the same, and says whether they passed.
- The table: milliseconds of a step by crop and batch, of the plain and the tuned loop of bench/step.py, and of our
  steps, one by one and recorded as a CUDA graph. Medians of alternating repetitions in one process, on a
  U-Net/ResNet-34 of full depth in the device's precision. Where steps cannot be recorded, the reason stands in place of
  the number; where a recording failed, the table ends there, as such a process is of no use any more. Besides, recorded
  steps whose images stay in the processor's memory ("not resident"), and recorded steps of a network that
  `torch.compile` has compiled, with the seconds that this took (the caches of inductor and Triton begin empty).
- A profile of the kernels of a recorded step (at 256², batch 16), and for how much of the time they run.
- `--search`: last, the time of a sweep of 50 trials at the GPU's defaults, with one seed of confirmation.

Writes OUT_FOLDER/gpu.json and OUT_FOLDER/gpu.md after each part. What has not begun when `--minutes` are over is left
out, the search is ended then, and what is missing says so. The whole table takes 4 minutes on an H200. `--device cpu`
tries the command itself.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
import unittest.mock
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


from bench.step import plain
from sweeper.core.errors import UsageError
from sweeper.core.recipe import Engine, Recipe
from sweeper.core.records import Conditions, Dataset, TrialSpec
from sweeper.data import load_dataset
from sweeper.training.engine import StudyTraining
from sweeper.training.failure_causes import RecordingError
from sweeper.training.hardware import probe_device
from sweeper.training.training_context import open_context

TABLE = ((128, 8), (256, 8), (256, 16), (512, 16))
"""Crop and batch."""
PROFILED = (256, 16)
"""The row whose kernels are listed; else the last one."""
MISSING = "–"
SEARCH = ("--trials", "50", "--confirm-seeds", "1", "--data", "synthetic:cracks?images=60&size=320")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cuda", help="cpu tries the benchmark itself")
    parser.add_argument("--tests", action="store_true")
    parser.add_argument("--search", action="store_true")
    parser.add_argument("--minutes", type=float, default=9.0, help="for all of it")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--encoder", default="resnet34")
    parser.add_argument("--only", type=int, nargs="*", help="places in the table, from 0")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    end = time.perf_counter() + 60 * asked.minutes
    found: dict[str, Any] = {"torch": torch.__version__, "hardware": probe_device(asked.device).model_dump(mode="json")}
    if asked.tests:
        tests = subprocess.run([sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "cuda"], check=False)
        found["tests"] = "passed" if tests.returncode == 0 else f"status {tests.returncode}"
    rows = [row for place, row in enumerate(TABLE) if asked.only is None or place in asked.only]
    found["steps"] = [{"size": size, "batch": batch} for size, batch in rows]
    try:
        table(found, rows, end, asked)
    except RecordingError as error:
        found["lost"] = str(error)
    if asked.search:
        found["search"] = search(end)
    write(asked.out, found)
    print((asked.out / "gpu.md").read_text())


def table(found: dict[str, Any], rows: list[tuple[int, int]], end: float, asked: argparse.Namespace) -> None:
    """Measure all except the tests and the search, into `found`.

    Raises:
        RecordingError: if a recording failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        dataset = load_dataset("synthetic:cracks?images=40&size=512", Path(folder))
        recipes = [Recipe(encoder=asked.encoder, encoder_depth=5, size=size, batch_size=batch) for size, batch in rows]
        for part in (ways, compiled):  # what compiling takes, it takes in each row
            for row, recipe in zip(found["steps"], recipes, strict=True):
                if time.perf_counter() < end:
                    part(dataset, recipe, asked, row)
                    gc.collect()
                    torch.cuda.empty_cache()
                    write(asked.out, found)
        if time.perf_counter() < end:
            usual = rows.index(PROFILED) if PROFILED in rows else -1
            found |= profile(dataset, recipes[usual], asked)
        else:
            found["profile"] = []


def search(end: float) -> str:
    """Return the seconds of a sweep of 50 trials, in words, or that it was ended."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "sweeper", "run", *SEARCH]
        try:
            subprocess.run(command, cwd=folder, check=True, timeout=max(1.0, end - began))
        except subprocess.TimeoutExpired:
            return f"not done after {time.perf_counter() - began:.0f} s, when the time was over"
    return f"{time.perf_counter() - began:.0f} s"


Row = dict[str, Any]
"""What was found of a crop and batch, by name: numbers, or why there is none."""


def ways(dataset: Dataset, recipe: Recipe, asked: argparse.Namespace, row: Row) -> None:
    """Milliseconds of a step in each way; medians of alternating repetitions."""
    known: dict[str, Callable[[], float | str]] = {
        "plain": lambda: plain(recipe, asked.steps, tuned=False, device=asked.device),
        "tuned": lambda: plain(recipe, asked.steps, tuned=True, device=asked.device),
        "eager": lambda: ours(dataset, recipe, "eager", asked),
        "graph": lambda: ours(dataset, recipe, "graph", asked),
        "not_resident": lambda: ours(dataset, recipe, "graph", asked, fits=False),
    }
    taken: dict[str, list[float | str]] = {name: [] for name in known}
    for _ in range(asked.repetitions):
        for name, way in known.items():
            taken[name].append(way())
            numbers = [value for value in taken[name] if isinstance(value, float)]
            row[name] = statistics.median(numbers) if len(numbers) == len(taken[name]) else taken[name][-1]


def ours(
    dataset: Dataset, recipe: Recipe, engine: Engine, asked: argparse.Namespace, *, fits: bool = True
) -> float | str:
    """Milliseconds of a step of a training after its first rung, or why it cannot be recorded.

    `fits`: the images are on the device; else each batch is cut by the processor.
    """
    try:
        training = _training(dataset, recipe, engine, asked.device, 2 * asked.steps, fits=fits)
        training.advance()  # what happens once: recordings, choice of kernels
    except UsageError as error:
        return str(error)
    began = time.perf_counter()
    training._steps.take_steps(asked.steps, 2 * asked.steps)
    return 1000 * (time.perf_counter() - began) / asked.steps


def compiled(dataset: Dataset, recipe: Recipe, asked: argparse.Namespace, row: Row) -> None:
    """Measure a compiled network: its steps relative to the plain one's, in turn, and the cost of its first steps."""
    total = 2 * asked.steps * (asked.repetitions + 1)
    seconds, trainings = [], []
    with tempfile.TemporaryDirectory() as folder:
        caches = {"TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor", "TRITON_CACHE_DIR": f"{folder}/triton"}
        with unittest.mock.patch.dict("os.environ", caches):
            for compiling in (True, True, False):
                own = recipe.model_copy(update={"compiled": compiling})
                began = time.perf_counter()
                try:
                    trainings.append(_training(dataset, own, "graph", asked.device, total))
                    trainings[-1]._steps.take_steps(0, asked.steps)
                except RecordingError:
                    raise
                except (RuntimeError, UsageError) as error:  # no compiler, or what it cannot compile, or be recorded
                    row |= {"compiled": str(error).splitlines()[0][:60], "compile_seconds": "", "plain_compiled": ""}
                    return
                seconds.append(time.perf_counter() - began)
            taken: tuple[list[float], list[float]] = ([], [])
            for repetition in range(1, asked.repetitions + 1):
                for training, times in zip(trainings[1:], taken, strict=True):
                    began = time.perf_counter()
                    training._steps.take_steps(repetition * asked.steps, (repetition + 1) * asked.steps)
                    times.append(1000 * (time.perf_counter() - began) / asked.steps)
    ratios = [plain / fast for fast, plain in zip(*taken, strict=True)]
    row |= {
        "compiled": statistics.median(taken[0]),
        "compile_seconds": seconds[0] - seconds[1],
        "plain_compiled": statistics.median(ratios),
    }


def _training(
    dataset: Dataset, recipe: Recipe, engine: Engine, device: str, steps: int, *, fits: bool = True
) -> StudyTraining:
    own = recipe.model_copy(update={"engine": engine, "precision": probe_device(device).precision, "evaluations": 2})
    context = open_context(Conditions(dataset=dataset, recipe=own, seed=0), device)
    return StudyTraining(_spec(steps), context if fits else replace(context, resident=None))


def _spec(steps: int, **params: float) -> TrialSpec:
    return TrialSpec(purpose="search", number=0, family="dice_ce", params=params, lr=1e-3, seed=0, steps=steps)


def profile(dataset: Dataset, recipe: Recipe, asked: argparse.Namespace) -> dict[str, Any]:
    """Return the slowest kernels of at most ten recorded steps, and all kernels' share of the time.

    The share is that of as many other steps, which were not watched.
    """
    cuda, steps = asked.device == "cuda", min(10, asked.steps)
    engine: Engine = "graph" if cuda else "eager"
    training = _training(dataset, recipe, engine, asked.device, 6 * steps)
    training._steps.take_steps(0, steps)
    how = "recorded" if training._steps.is_recorded else "plain"
    began = time.perf_counter()
    training._steps.take_steps(steps, 2 * steps)
    seconds = time.perf_counter() - began
    activity = torch.profiler.ProfilerActivity.CUDA if cuda else torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[activity], acc_events=True) as seen:
        training._steps.take_steps(2 * steps, 3 * steps)
    times = [(e, e.self_device_time_total if cuda else e.self_cpu_time_total) for e in seen.key_averages()]
    times.sort(key=lambda pair: -pair[1])
    return {
        "profiled": how,
        "busy": sum(microseconds for _, microseconds in times) / 1e6 / seconds,
        "profile": [
            {"kernel": e.key[:100], "calls": e.count / steps, "ms": taken / 1000 / steps} for e, taken in times[:25]
        ],
    }


def write(folder: Path, found: dict[str, Any]) -> None:
    """Write what was measured so far, for programs and for docs/performance.md."""
    (folder / "gpu.json").write_text(json.dumps(found, indent=2))
    lines = [f"{found['hardware']['name']}, torch {found['torch']}, {found['hardware']['precision']}", ""]
    lines += [f"Tests marked cuda: {found['tests']}", ""] if "tests" in found else []
    heads = ["crop", "batch", "plain, ms", "tuned, ms", "eager, ms", "graph, ms", "tuned / graph"]
    heads += ["not resident, ms", "compiled, ms", "graph / compiled", "compile, s", "tuned / best"]
    lines += [f"| {' | '.join(heads)} |", "|--:" * len(heads) + "|"]
    for row in found["steps"]:
        names = [
            "plain",
            "tuned",
            "eager",
            "graph",
            "",
            "not_resident",
            "compiled",
            "plain_compiled",
            "compile_seconds",
        ]
        cells = [_cell(row.get(name, MISSING)) for name in names]
        quick = [v for v in (row.get("graph"), row.get("compiled")) if isinstance(v, float)]
        cells[4] = _ratio(row.get("tuned"), row.get("graph"))
        cells.append(_ratio(row.get("tuned"), min(quick, default=None)))
        lines.append(f"| {row['size']}² | {row['batch']} | {' | '.join(cells)} |")
    if "lost" in found:
        lines += ["", f"Nothing more was measured: {found['lost']}"]
    elif any(MISSING in line for line in lines):
        lines += ["", f"{MISSING}: not measured; `--minutes` were over."]
    if found.get("profile") == []:
        lines += ["", "No profile: `--minutes` were over."]
    elif "profile" in found:
        lines += ["", f"Kernels run for {found['busy']:.0%} of the time of a step ({found['profiled']})."]
        lines += ["", "| kernel | calls a step | ms a step |", "|---|--:|--:|"]
        lines += [f"| {k['kernel']} | {k['calls']:.0f} | {k['ms']:.3f} |" for k in found["profile"]]
    if "search" in found:
        lines += ["", f"A sweep of 50 trials: {found['search']}"]
    (folder / "gpu.md").write_text("\n".join(lines) + "\n")


def _cell(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _ratio(above: object, below: object) -> str:
    return f"{above / below:.2f}" if isinstance(above, float) and isinstance(below, float) else MISSING


if __name__ == "__main__":
    main()
