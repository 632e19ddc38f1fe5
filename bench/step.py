"""Measure milliseconds per training step: sweeper in float32 and bfloat16, a plain and a tuned loop.

    python bench/step.py [--size 128] [--batch-size 16] [--threads 2] [--steps 20] [--repetitions 5]

The plain loop is what people usually write: the same network, batch, crop and loss in float32, with the default memory
layout, unfused AdamW, and batches from tensors in memory. The tuned loop also has channels_last, fused AdamW and the
faster of float32 and bfloat16 (on a GPU also the fastest algorithms of cuDNN). A step of sweeper does more: it reads
and augments its batch, and averages the weights.

Prints for each the median milliseconds of alternating repetitions in one process, and the speed relative to the plain
loop, pair by pair, with the range. "sweeper" is sweeper in the precision that it would choose, "tuned loop" the faster
precision. With the options of docs/performance.md it takes some two minutes on two cores.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import segmentation_models_pytorch as smp
import torch

from sweeper.core.recipe import Precision, Recipe
from sweeper.core.records import Conditions, TrialSpec
from sweeper.core.text import format_count
from sweeper.data import load_dataset
from sweeper.training.engine import StudyTraining
from sweeper.training.hardware import probe_device, settle_process, use_fastest_kernels
from sweeper.training.training_context import open_context
from sweeper.workflow.machine_choice import choose_precision


def time_sweeper(conditions: Conditions, precision: str, steps: int) -> float:
    """Return the milliseconds of a step of sweeper's training on the CPU."""
    recipe = conditions.recipe.model_copy(update={"precision": precision, "evaluations": 1})
    spec = TrialSpec(purpose="search", number=0, family="dice_ce", params={}, lr=1e-3, seed=0, steps=steps)
    training = StudyTraining(spec, open_context(conditions.model_copy(update={"recipe": recipe}), "cpu"))
    training.advance()
    return 1000 * (training.make_result("complete").seconds_per_step or 0.0)


def time_loop(recipe: Recipe, steps: int, *, tuned: bool, device: str = "cpu", bf16: bool | None = None) -> float:
    """Return the milliseconds of a step of the plain or the tuned loop; on a GPU without the first ten steps.

    Args:
        recipe: its network, crop and batch are used.
        steps: number of timed steps.
        tuned: whether it is the tuned loop.
        device: `cpu` or `cuda`.
        bf16: whether the tuned loop has autocast in bfloat16; None = if sweeper would use bfloat16 on this device.
    """
    model = smp.create_model(
        "unet",
        recipe.encoder,
        encoder_weights=None,
        encoder_depth=recipe.encoder_depth,
        decoder_channels=recipe.decoder_channels,
        in_channels=3,
        classes=1,
    ).to(device)
    dice, entropy = smp.losses.DiceLoss("binary"), torch.nn.BCEWithLogitsLoss()
    images = torch.randn(recipe.batch_size, 3, recipe.size, recipe.size)
    masks = (torch.rand(recipe.batch_size, 1, recipe.size, recipe.size) < 0.01).float().to(device)
    images = images.to(device)
    if tuned:
        model, images = model.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    bf16 = tuned and (probe_device(device).precision == "bfloat16" if bf16 is None else bf16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=tuned)
    first = 10 if device == "cuda" else 0
    began = time.perf_counter()
    for step in range(first + steps):
        if step == first and device == "cuda":
            torch.cuda.synchronize()
            began = time.perf_counter()
        with use_fastest_kernels(torch.device(device)) if tuned else nullcontext():
            with torch.autocast(device, dtype=torch.bfloat16) if bf16 else nullcontext():
                logits = model(images)
            loss = 0.5 * dice(logits.float(), masks) + 0.5 * entropy(logits.float(), masks)
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
    if device == "cuda":
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - began) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=Recipe().size)
    parser.add_argument("--batch-size", type=int, default=Recipe().batch_size)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    settle_process(threads=arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        dataset = load_dataset(f"synthetic:cracks?images=20&size={max(128, arguments.size)}", Path(folder))
        recipe = Recipe(size=arguments.size, batch_size=arguments.batch_size)
        conditions = Conditions(dataset=dataset, recipe=recipe, seed=0)
        runs = {
            "plain loop": lambda: time_loop(recipe, arguments.steps, tuned=False),
            "tuned, float32": lambda: time_loop(recipe, arguments.steps, tuned=True, bf16=False),
            "tuned, bfloat16": lambda: time_loop(recipe, arguments.steps, tuned=True, bf16=True),
            "sweeper, float32": lambda: time_sweeper(conditions, "float32", arguments.steps),
            "sweeper, bfloat16": lambda: time_sweeper(conditions, "bfloat16", arguments.steps),
        }
        measured: dict[str, list[float]] = {name: [] for name in runs}
        for repetition in range(arguments.repetitions + 1):
            for name, run in runs.items():
                value = run()
                if repetition:  # the first round warms up
                    measured[name].append(value)
    flags = torch.backends.cpu.get_cpu_capability()
    bf16 = "with" if torch.cpu._is_avx512_bf16_supported() else "without"
    threads = format_count(arguments.threads, "thread")
    print(f"{recipe.size}² × {recipe.batch_size}, {threads}, {flags} {bf16} bfloat16 instructions")
    middle = {name: statistics.median(values) for name, values in measured.items()}
    faster = min(("tuned, float32", "tuned, bfloat16"), key=lambda name: middle[name])
    measured["tuned loop"] = measured[faster]
    seconds: dict[Precision, float] = {p: middle[f"sweeper, {p}"] / 1000 for p in ("float32", "bfloat16")}
    measured["sweeper"] = measured[f"sweeper, {choose_precision(seconds)}"]
    for name, values in measured.items():
        ratios = [a / b for a, b in zip(measured["plain loop"], values, strict=True)]
        print(
            f"{name:20} {statistics.median(values):7.1f} ms  {statistics.median(ratios):.2f}× the plain loop's speed "
            f"({min(ratios):.2f}–{max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
