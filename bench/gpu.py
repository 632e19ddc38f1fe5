"""Check sweeper on a machine with a GPU in one command: the tests, the cost of a training step, the time of a search.

    python bench/gpu.py OUT_FOLDER [--device cuda] [--tests] [--search] [--minutes 9] [--steps 60] [--repetitions 3]

- `--tests` first runs `pytest -m cuda`. Failed tests do not end the command; the output says whether they passed.
- A table has a row for each crop and batch: milliseconds of a step of the plain and the tuned loop of bench/step.py,
  and of sweeper with steps one by one ("eager") and recorded as a CUDA graph. They are medians of alternating
  repetitions in one process, for a U-Net/ResNet-34 of full depth in the precision that sweeper chooses. Further columns
  have recorded steps whose images stay in the processor's memory ("not resident"), and recorded steps of a network
  compiled by `torch.compile`, with the seconds to compile it (inductor and Triton begin with empty caches). If steps
  cannot be recorded, the reason is in the cell. If a recording fails, the table ends, because such a process cannot be
  used any more.
- A profile has the kernels of a recorded step (256², batch 16), and the share of the time in which kernels run.
- `--search` times at the end a sweep of 50 trials with the defaults for a GPU and one seed of confirmation.

Writes OUT_FOLDER/gpu.json and OUT_FOLDER/gpu.md after each part, and prints gpu.md. Parts that have not begun after
`--minutes` are left out, and a search is ended then; the output says so. The table takes 4 minutes on an H200.
`--device cpu` tests the command itself.
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
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench.step import time_loop
from sweeper.core.errors import UsageError
from sweeper.core.recipe import Engine, Recipe
from sweeper.core.records import Conditions, Dataset, TrialSpec
from sweeper.data import load_dataset
from sweeper.training.engine import StudyTraining
from sweeper.training.failure_causes import RecordingError
from sweeper.training.hardware import probe_device
from sweeper.training.training_context import open_context

ROOT = Path(__file__).resolve().parent.parent
SIZES = ((128, 8), (256, 8), (256, 16), (512, 16))
"""Crop and batch of each row."""
PROFILED_SIZE = (256, 16)
"""Row whose kernels are listed; if it is left out by `--only`, the last row."""
MISSING = "–"
SEARCH_OPTIONS = ("--trials", "50", "--seeds", "1", "synthetic:cracks?images=60&size=320")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cuda", help="cpu tests the command itself")
    parser.add_argument("--tests", action="store_true")
    parser.add_argument("--search", action="store_true")
    parser.add_argument("--minutes", type=float, default=9.0, help="limit for all parts")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--encoder", default="resnet34")
    parser.add_argument("--only", type=int, nargs="+", choices=range(len(SIZES)), help="rows of the table")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    end = time.perf_counter() + 60 * arguments.minutes
    hardware = probe_device(arguments.device).model_dump(mode="json")
    results: dict[str, Any] = {"torch": torch.__version__, "hardware": hardware}
    if arguments.tests:
        command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "cuda"]
        tests = subprocess.run(command, cwd=ROOT, check=False)
        results["tests"] = "passed" if tests.returncode == 0 else f"status {tests.returncode}"
    sizes = [pair for place, pair in enumerate(SIZES) if arguments.only is None or place in arguments.only]
    results["steps"] = [{"size": size, "batch": batch} for size, batch in sizes]
    try:
        measure_steps(results, sizes, end, arguments)
    except RecordingError as error:
        results["lost"] = str(error)
    if arguments.search:
        results["search"] = time_search(end)
    write_results(arguments.out, results)
    print((arguments.out / "gpu.md").read_text())


def measure_steps(
    results: dict[str, Any], sizes: list[tuple[int, int]], end: float, arguments: argparse.Namespace
) -> None:
    """Fill the rows of the table and the profile into `results`, until the time `end`.

    Raises:
        RecordingError: if a recording failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        dataset = load_dataset("synthetic:cracks?images=40&size=512", Path(folder))
        recipes = [
            Recipe(encoder=arguments.encoder, encoder_depth=5, size=size, batch_size=batch) for size, batch in sizes
        ]
        for row, recipe in zip(results["steps"], recipes, strict=True):
            if time.perf_counter() < end:
                measure_ways(dataset, recipe, arguments, row)
                gc.collect()
                torch.cuda.empty_cache()
                write_results(arguments.out, results)
        if time.perf_counter() < end:
            place = sizes.index(PROFILED_SIZE) if PROFILED_SIZE in sizes else -1
            results |= profile_steps(dataset, recipes[place], arguments)
        else:
            results["profile"] = []


def time_search(end: float) -> str:
    """Return in words the seconds of a sweep of 50 trials, or that it was ended at the time `end`."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "sweeper", "run", *SEARCH_OPTIONS]
        try:
            subprocess.run(command, cwd=folder, check=True, timeout=max(1.0, end - began))
        except subprocess.TimeoutExpired:
            return f"not finished after {time.perf_counter() - began:.0f} s, when `--minutes` were over"
    return f"{time.perf_counter() - began:.0f} s"


Row = dict[str, Any]
"""Measurements of a crop and batch, by name: numbers, or the reason why there is none."""


def measure_ways(dataset: Dataset, recipe: Recipe, arguments: argparse.Namespace, row: Row) -> None:
    """Measure the milliseconds of a step in each way; medians of alternating repetitions."""
    ways: dict[str, Callable[[], float | str]] = {
        "plain": lambda: time_loop(recipe, arguments.steps, tuned=False, device=arguments.device),
        "tuned": lambda: time_loop(recipe, arguments.steps, tuned=True, device=arguments.device),
        "eager": lambda: time_steps(dataset, recipe, "eager", arguments),
        "graph": lambda: time_steps(dataset, recipe, "graph", arguments),
        "not_resident": lambda: time_steps(dataset, recipe, "graph", arguments, fits=False),
    }
    values: dict[str, list[float | str]] = {name: [] for name in ways}
    for _ in range(arguments.repetitions):
        for name, measure in ways.items():
            values[name].append(measure())
            numbers = [value for value in values[name] if isinstance(value, float)]
            row[name] = statistics.median(numbers) if len(numbers) == len(values[name]) else values[name][-1]


def time_steps(
    dataset: Dataset, recipe: Recipe, engine: Engine, arguments: argparse.Namespace, *, fits: bool = True
) -> float | str:
    """Return the milliseconds of a step of a training after its first rung, or why its steps cannot be recorded.

    `fits`: whether the images are on the device; otherwise the processor cuts each batch.
    """
    try:
        training = open_training(dataset, recipe, engine, arguments.device, 2 * arguments.steps, fits=fits)
        training.advance()  # what is done once: recording, choice of kernels
    except UsageError as error:
        return str(error)
    began = time.perf_counter()
    training._steps.take_steps(arguments.steps, 2 * arguments.steps)
    return 1000 * (time.perf_counter() - began) / arguments.steps


def open_training(
    dataset: Dataset, recipe: Recipe, engine: Engine, device: str, steps: int, *, fits: bool = True
) -> StudyTraining:
    """Return a training before its first step, in the precision that sweeper chooses for the device."""
    changes = {"engine": engine, "precision": probe_device(device).precision, "evaluations": 2}
    conditions = Conditions(dataset=dataset, recipe=recipe.model_copy(update=changes), seed=0)
    context = open_context(conditions, device)
    spec = TrialSpec(purpose="search", number=0, family="dice_ce", params={}, lr=1e-3, seed=0, steps=steps)
    return StudyTraining(spec, context if fits else replace(context, resident=None))


def profile_steps(dataset: Dataset, recipe: Recipe, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the slowest kernels of at most ten recorded steps, and the share of the time in which kernels run.

    The time is that of other steps, which the profiler does not slow down.
    """
    cuda, steps = arguments.device == "cuda", min(10, arguments.steps)
    engine: Engine = "graph" if cuda else "eager"
    training = open_training(dataset, recipe, engine, arguments.device, 6 * steps)
    training._steps.take_steps(0, steps)
    how = "recorded" if training._steps.is_recorded else "plain"
    began = time.perf_counter()
    training._steps.take_steps(steps, 2 * steps)
    seconds = time.perf_counter() - began
    activity = torch.profiler.ProfilerActivity.CUDA if cuda else torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[activity], acc_events=True) as profile:
        training._steps.take_steps(2 * steps, 3 * steps)
    times = [(e, e.self_device_time_total if cuda else e.self_cpu_time_total) for e in profile.key_averages()]
    times.sort(key=lambda pair: -pair[1])
    return {
        "profiled": how,
        "busy": sum(microseconds for _, microseconds in times) / 1e6 / seconds,
        "profile": [
            {"kernel": e.key[:100], "calls": e.count / steps, "ms": each / 1000 / steps} for e, each in times[:25]
        ],
    }


def write_results(folder: Path, results: dict[str, Any]) -> None:
    """Write the results so far: gpu.json for programs, gpu.md for readers."""
    (folder / "gpu.json").write_text(json.dumps(results, indent=2))
    lines = [f"{results['hardware']['name']}, torch {results['torch']}, {results['hardware']['precision']}", ""]
    lines += [f"Tests marked cuda: {results['tests']}", ""] if "tests" in results else []
    heads = ["crop", "batch", "plain, ms", "tuned, ms", "eager, ms", "graph, ms", "tuned / graph"]
    heads += ["not resident, ms"]
    lines += [f"| {' | '.join(heads)} |", "|--:" * len(heads) + "|"]
    for row in results["steps"]:
        names = ["plain", "tuned", "eager", "graph", "", "not_resident"]
        cells = [_format_cell(row.get(name, MISSING)) for name in names]
        cells[4] = _format_ratio(row.get("tuned"), row.get("graph"))
        lines.append(f"| {row['size']}² | {row['batch']} | {' | '.join(cells)} |")
    if "lost" in results:
        lines += ["", f"Nothing more was measured: {results['lost']}"]
    elif any(MISSING in line for line in lines):
        lines += ["", f"{MISSING}: not measured; `--minutes` were over."]
    if results.get("profile") == []:
        lines += ["", "No profile: `--minutes` were over."]
    elif "profile" in results:
        lines += ["", f"Kernels run for {results['busy']:.0%} of the time of a step ({results['profiled']})."]
        lines += ["", "| kernel | calls a step | ms a step |", "|---|--:|--:|"]
        lines += [f"| {k['kernel']} | {k['calls']:.0f} | {k['ms']:.3f} |" for k in results["profile"]]
    if "search" in results:
        lines += ["", f"A sweep of 50 trials: {results['search']}"]
    (folder / "gpu.md").write_text("\n".join(lines) + "\n")


def _format_cell(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _format_ratio(above: object, below: object) -> str:
    return f"{above / below:.2f}" if isinstance(above, float) and isinstance(below, float) else MISSING


if __name__ == "__main__":
    main()
