"""What sweeper_trial costs a training besides its loss and its imports: python bench/own_training.py [--size 256].

One batch is on the device for all calls. Printed are the seconds of `trial()`, of 1,000 calls of the loss less those of
the same loss without the helper, and of the scores of 100 images with their file; on a processor of its own time.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from sweeper.scripts.contract import HELPER, TrialDocument, write_trial_folder

sys.path.insert(0, str(HELPER.parent))
from sweeper_trial import Trial

STEPS, IMAGES = 1000, 100


def seconds(call: Callable[[], object], device: str) -> float:
    clock = time.perf_counter if device == "cuda" else time.process_time  # which other processes do not change
    begun = clock()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - begun


def measure(classes: list[str], batch: int, size: int, device: str, folder: Path) -> str:
    """Return one line of numbers."""
    z = torch.randn(batch, len(classes) if len(classes) > 2 else 1, size, size, device=device)
    y = torch.randint(0, len(classes), (batch, size, size), device=device)
    document = TrialDocument(kind="confirm", family="cross_entropy", params={}, seed=1)
    write_trial_folder(folder, document.model_copy(update={"class_pixels": (9,) * len(classes)}))
    os.environ["SWEEPER_TRIAL"] = str(folder)
    t = Trial(classes)
    begin = seconds(lambda: Trial(classes), device)
    steps = STEPS if device == "cuda" else 50

    def best(call: Callable[[torch.Tensor, torch.Tensor], object]) -> float:
        return min(seconds(lambda: [call(z, y) for _ in range(steps)], device) for _ in range(4)) * STEPS / steps

    def score() -> None:
        with t.scoring("val") as s:
            for n in range(0, IMAGES, batch):
                s.add(z, y, [f"image{k}" for k in range(n, n + batch)])

    score()
    helper, plain, scores = best(t.loss), best(t._criterion), seconds(score, device)
    return (
        f"{device}, {len(classes)} classes, {batch} x {size}²: trial() {begin:.3f} s, {STEPS} calls "
        f"{helper - plain:+.3f} s on {plain:.2f} s, scores of {IMAGES} images {scores:.2f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    given = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for count in (2, 8):
        with tempfile.TemporaryDirectory() as name:
            classes = [f"class {n}" for n in range(count)]
            print(measure(classes, given.batch, given.size, device, Path(name) / "one"))


if __name__ == "__main__":
    main()
