"""Milliseconds per training step at the CPU's default recipe: our engine in float32 and bfloat16, against a plain loop.

The plain loop is what people write: the same network, batch, crop and loss, float32, default memory layout, unfused
AdamW, batches from tensors in memory. Medians of alternating repetitions in one process with one thread.

    python bench/step.py [--steps 20] [--repetitions 5]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import segmentation_models_pytorch as smp
import torch

from sweeper.data import load_dataset, open_store
from sweeper.recipe import Recipe
from sweeper.records import Conditions, TrialSpec
from sweeper.training.engine import Training
from sweeper.training.hardware import settle_process


def ours(conditions: Conditions, precision: str, steps: int) -> float:
    recipe = conditions.recipe.model_copy(update={"precision": precision, "evaluations": 1})
    spec = TrialSpec(purpose="search", number=0, family="dice_ce", params={}, lr=1e-3, seed=0, steps=steps)
    training = Training(
        spec, conditions.model_copy(update={"recipe": recipe}), open_store(conditions.dataset.store), "cpu"
    )
    training.advance()
    return 1000 * (training.result("complete").seconds_per_step or 0.0)


def plain(recipe: Recipe, steps: int) -> float:
    model = smp.create_model(
        "unet",
        recipe.encoder,
        encoder_weights=None,
        encoder_depth=recipe.encoder_depth,
        decoder_channels=(64, 32, 16),
        in_channels=3,
        classes=1,
    )
    dice, entropy = smp.losses.DiceLoss("binary"), torch.nn.BCEWithLogitsLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    images = torch.randn(recipe.batch_size, 3, recipe.size, recipe.size)
    masks = (torch.rand(recipe.batch_size, 1, recipe.size, recipe.size) < 0.01).float()
    began = time.perf_counter()
    for _ in range(steps):
        logits = model(images)
        loss = 0.5 * dice(logits, masks) + 0.5 * entropy(logits, masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return 1000 * (time.perf_counter() - began) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    settle_process(threads=1)
    with tempfile.TemporaryDirectory() as folder:
        dataset = load_dataset("synthetic:cracks?images=20", Path(folder))
        conditions = Conditions(dataset=dataset, recipe=Recipe(), seed=0)
        runs = {
            "plain loop, float32": lambda: plain(conditions.recipe, arguments.steps),
            "sweeper, float32": lambda: ours(conditions, "float32", arguments.steps),
            "sweeper, bfloat16": lambda: ours(conditions, "bfloat16", arguments.steps),
        }
        measured: dict[str, list[float]] = {name: [] for name in runs}
        for repetition in range(arguments.repetitions + 1):
            for name, run in runs.items():
                value = run()
                if repetition:  # the first round warms up
                    measured[name].append(value)
    print(f"CPU: {torch.backends.cpu.get_cpu_capability()}; one thread; medians of {arguments.repetitions}")
    base = statistics.median(measured["plain loop, float32"])
    for name, values in measured.items():
        middle = statistics.median(values)
        print(f"{name:22} {middle:7.1f} ms  ({min(values):.1f}–{max(values):.1f})   {base / middle:.2f}×")


if __name__ == "__main__":
    main()
