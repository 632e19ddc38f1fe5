"""Measure what sweeper_trial costs a training of the user's besides its loss and its imports.

    python bench/own_training.py [--size 256] [--batch 8]

Prints, for two and for eight classes, the seconds of `trial()`, of 1,000 calls of the loss less those of the same loss
without the helper, and of the scores of 100 images with their file; and the check of the labels, which is made at each
call, as a share of a plain training step (U-Net with ResNet-18, torch's cross-entropy, AdamW). All calls use one batch
on the device. On a CPU the processor's time is taken, which other processes do not change, and 1,000 calls are
extrapolated from 50. Takes a minute or two.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import segmentation_models_pytorch as smp
import torch
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from sweeper.scripts.contract import HELPER, TrialDocument, write_trial_folder

sys.path.insert(0, str(HELPER.parent))
from sweeper_trial import Trial, settle_labels

STEPS, IMAGES = 1000, 100


def measure_seconds(call: Callable[[], object], device: str) -> float:
    clock = time.perf_counter if device == "cuda" else time.process_time
    began = clock()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - began


def measure(classes: list[str], batch: int, size: int, device: str, folder: Path) -> str:
    """Return a line with the seconds for this number of classes."""
    z = torch.randn(batch, len(classes) if len(classes) > 2 else 1, size, size, device=device)
    y = torch.randint(0, len(classes), (batch, size, size), device=device)
    document = TrialDocument(kind="confirm", family="cross_entropy", params={}, seed=1)
    write_trial_folder(folder, document.model_copy(update={"class_pixels": (9,) * len(classes)}))
    os.environ["SWEEPER_TRIAL"] = str(folder)
    t = Trial(classes)
    begin = measure_seconds(lambda: Trial(classes), device)
    steps = STEPS if device == "cuda" else 50

    def measure_calls(call: Callable[[torch.Tensor, torch.Tensor], object]) -> float:
        times = [measure_seconds(lambda: [call(z, y) for _ in range(steps)], device) for _ in range(4)]
        return min(times) * STEPS / steps

    def score() -> None:
        with t.scoring("val") as s:
            for n in range(0, IMAGES, batch):
                s.add(z, y, [f"image{k}" for k in range(n, n + batch)])

    net = smp.Unet("resnet18", encoder_weights=None, classes=len(classes)).to(device)
    optimizer = torch.optim.AdamW(net.parameters())
    images = torch.randn(batch, 3, size, size, device=device)

    def step() -> None:
        for _ in range(5):
            F.cross_entropy(net(images), y).backward()
            optimizer.step()
            optimizer.zero_grad()

    def check() -> None:
        for _ in range(5):
            settle_labels(y, len(classes), 255)

    shares = [measure_seconds(check, device) / measure_seconds(step, device) for _ in range(6)]
    score()
    helper, plain, scores = measure_calls(t.loss), measure_calls(t._loss_function), measure_seconds(score, device)
    return (
        f"{device}, {len(classes)} classes, {batch} x {size}²: trial() {begin:.3f} s, {STEPS} calls "
        f"{helper - plain:+.3f} s on {plain:.2f} s, scores of {IMAGES} images {scores:.2f} s, check of the labels "
        f"{min(shares[1:]):.2%} of a step"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for count in (2, 8):
        with tempfile.TemporaryDirectory() as name:
            classes = [f"class {n}" for n in range(count)]
            print(measure(classes, arguments.batch, arguments.size, device, Path(name) / "one"))


if __name__ == "__main__":
    main()
