"""Run the loop that people usually write: Optuna, segmentation-models-pytorch, DataLoader and MLflow.

    python bench/plain_loop.py DATA [--trials 50] [--prune] [--tuned] [--loader-workers 0] [--fixed 8]

bench/sweep.py runs this script and compares sweeper with it. DATA is a folder with images/, masks/ and a split.csv that
puts each image into train, val or test. Every trial decodes its images again, trains in float32 with AdamW and a
one-cycle schedule, is evaluated four times on whole validation images, and logs each evaluation to MLflow. `--tuned`
adds what a careful engineer adds: autocast if bfloat16 is measured to be faster, channels_last, fused AdamW, and images
that are decoded only once.

Prints one JSON document: seconds, milliseconds per step, steps, the best trial with its validation mIoU and its test
mIoU at 0.5, and the number of threads. Writes mlflow.db and a database of Optuna in the current folder. 50 trials took
7 minutes on two cores (docs/performance.md).
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import optuna
import segmentation_models_pytorch as smp
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench.configurations import list_fixed_configurations

DECODER_CHANNELS, SIZE, BATCH_SIZE = (32, 16, 8), 64, 8
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
EVALUATIONS = 4


class Crops(Dataset[tuple[Tensor, Tensor]]):
    """Random crops of one split with flips; images are decoded for each crop, or kept in memory."""

    def __init__(self, root: Path, stems: list[str], size: int, *, keep: bool) -> None:
        self.root, self.stems, self.size = root, stems, size
        self.images = [read_pair(root, stem) for stem in stems] if keep else None

    def __len__(self) -> int:
        return len(self.stems)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, mask = self.images[index] if self.images else read_pair(self.root, self.stems[index])
        height, width = mask.shape
        top = int(torch.randint(0, max(1, height - self.size + 1), ()))
        left = int(torch.randint(0, max(1, width - self.size + 1), ()))
        image = image[top : top + self.size, left : left + self.size]
        mask = mask[top : top + self.size, left : left + self.size]
        if torch.rand(()) < 0.5:
            image, mask = image[:, ::-1], mask[:, ::-1]
        return to_tensor(image), torch.from_numpy(np.ascontiguousarray(mask)).float()


def read_pair(root: Path, stem: str) -> tuple[np.ndarray, np.ndarray]:
    """Read an image (H, W, 3) and its mask (H, W), 1 where there is foreground; both uint8."""
    path = next((root / "images").glob(f"{stem}.*"))
    image = np.asarray(Image.open(path).convert("RGB"))
    mask = np.asarray(Image.open(root / "masks" / f"{stem}.png"))
    return image, (mask > 0).astype(np.uint8)


def to_tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(((image / 255 - MEAN) / STD).transpose(2, 0, 1).astype(np.float32))


class DiceCE(nn.Module):
    """Mixture of Dice and cross-entropy, as in many tutorials."""

    def __init__(self, mix: float) -> None:
        super().__init__()
        self.mix, self.dice, self.ce = mix, smp.losses.DiceLoss("binary"), smp.losses.SoftBCEWithLogitsLoss()

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.mix * self.ce(logits, target) + (1 - self.mix) * self.dice(logits, target)


def suggest_loss(trial: optuna.trial.BaseTrial, imbalance: float) -> tuple[nn.Module, float]:
    """Return a loss of segmentation-models-pytorch and a learning rate, drawn from sweeper's default space."""
    lr = trial.suggest_float("lr", 3e-4, 1e-2, log=True)
    name = trial.suggest_categorical("loss", ["ce", "weighted_ce", "focal", "dice", "tversky", "dice_ce"])
    if name == "ce":
        return smp.losses.SoftBCEWithLogitsLoss(), lr
    if name == "weighted_ce":
        weight = torch.tensor(imbalance ** trial.suggest_float("power", 0, 1.1))
        return nn.BCEWithLogitsLoss(pos_weight=weight), lr
    if name == "focal":
        gamma, alpha = trial.suggest_float("gamma", 0, 5), trial.suggest_float("alpha", 0.05, 0.95)
        return smp.losses.FocalLoss("binary", alpha=alpha, gamma=gamma), lr
    if name == "dice":
        return smp.losses.DiceLoss("binary"), lr
    if name == "tversky":
        beta = trial.suggest_float("fn_weight", 0.3, 0.9)
        return smp.losses.TverskyLoss("binary", alpha=1 - beta, beta=beta), lr
    return DiceCE(trial.suggest_float("mix", 0, 1)), lr


def make_network(*, tuned: bool) -> nn.Module:
    """Return the network, with random initial weights."""
    model = smp.Unet(
        "resnet18", encoder_depth=3, encoder_weights=None, decoder_channels=DECODER_CHANNELS, in_channels=3, classes=1
    )
    return model.to(memory_format=torch.channels_last) if tuned else model


class Loop:
    """Data, settings and best trial, which all trials of one run share."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.root = Path(arguments.data)
        with (self.root / "split.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        self.stems = {side: [r["stem"] for r in rows if r["split"] == side] for side in ("train", "val", "test")}
        masks = [read_pair(self.root, stem)[1] for stem in self.stems["train"]]
        share = float(np.mean([mask.mean() for mask in masks]))
        self.imbalance = (1 - share) / share
        if len(masks) < arguments.batch_size:
            sys.exit(f"a batch of {arguments.batch_size} needs as many training images, found {len(masks)}")
        self.crops = Crops(self.root, self.stems["train"], arguments.size, keep=arguments.tuned)
        self.uses_bf16 = arguments.tuned and self.is_bfloat16_faster()
        self.steps_taken, self.training_seconds = 0, 0.0
        self.best: tuple[float, dict[str, Any], nn.Module] | None = None

    def is_bfloat16_faster(self) -> bool:
        """Return whether bfloat16 is faster, by the median of three steps, after a first one that chooses kernels."""
        batch = torch.stack([self.crops[0][0]] * self.arguments.batch_size).contiguous(
            memory_format=torch.channels_last
        )
        seconds: tuple[list[float], list[float]] = ([], [])
        model = make_network(tuned=self.arguments.tuned)
        for step in range(8):
            self.uses_bf16 = step % 2 == 1
            began = time.perf_counter()
            with self.autocast():
                logits = model(batch)
            logits.float().mean().backward()
            if step > 1:
                seconds[self.uses_bf16].append(time.perf_counter() - began)
        return sorted(seconds[True])[1] < sorted(seconds[False])[1]

    def autocast(self) -> Any:
        return torch.autocast("cpu", dtype=torch.bfloat16) if self.uses_bf16 else nullcontext()

    def train(self, trial: optuna.trial.BaseTrial) -> float:
        """Train a trial; return its last validation mIoU."""
        loss_function, lr = suggest_loss(trial, self.imbalance)
        arguments = self.arguments
        model = make_network(tuned=self.arguments.tuned)
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01, fused=arguments.tuned)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=arguments.steps)
        workers = arguments.loader_workers
        loader = DataLoader(
            self.crops,
            batch_size=arguments.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        step, value = 0, 0.0
        with mlflow.start_run(run_name=f"trial {trial.number}"):
            mlflow.log_params(trial.params)
            model.train()
            began = time.perf_counter()
            while step < arguments.steps:
                for batch, masks in loader:
                    images = batch.contiguous(memory_format=torch.channels_last) if arguments.tuned else batch
                    with self.autocast():
                        logits = model(images)
                    loss = loss_function(logits.float(), masks.unsqueeze(1))
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    scheduler.step()
                    step += 1
                    if step % max(1, arguments.steps // EVALUATIONS) == 0:
                        self.training_seconds += time.perf_counter() - began
                        value = self.measure_miou(model, self.stems["val"])
                        mlflow.log_metrics({"val/miou": value, "train/loss": float(loss)}, step=step)
                        model.train()
                        began = time.perf_counter()
                        if arguments.prune:
                            trial.report(value, step)
                            if trial.should_prune():
                                self.steps_taken += step
                                raise optuna.TrialPruned
                    if step >= arguments.steps:
                        break
        self.steps_taken += step
        if self.best is None or value > self.best[0]:
            self.best = (value, dict(trial.params), model)
        return value

    @torch.no_grad()
    def measure_miou(self, model: nn.Module, stems: list[str]) -> float:
        """Return the mIoU at 0.5, from counts summed over whole images, which are padded to the stride."""
        model.eval()
        counts = np.zeros((2, 2), dtype=np.int64)
        for stem in stems:
            image, mask = read_pair(self.root, stem)
            height, width = mask.shape
            padded = nn.functional.pad(to_tensor(image)[None], (0, -width % 8, 0, -height % 8))
            with self.autocast():
                prediction = (model(padded)[0, 0, :height, :width] > 0).numpy()
            for label in (0, 1):
                for predicted in (0, 1):
                    counts[label, predicted] += int(((mask == label) & (prediction == predicted)).sum())
        hits = np.diag(counts)
        return float(np.mean(hits / np.maximum(1, counts.sum(0) + counts.sum(1) - hits)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument(
        "--fixed", type=int, default=0, help="number of fixed configurations to train instead of a search"
    )
    parser.add_argument("--prune", action="store_true", help="Optuna's MedianPruner")
    parser.add_argument("--tuned", action="store_true")
    parser.add_argument("--loader-workers", type=int, default=0)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.manual_seed(arguments.seed)
    began = time.perf_counter()
    loop = Loop(arguments)
    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    mlflow.set_experiment(f"plain-{int(time.time())}")
    if arguments.fixed:
        for params in list_fixed_configurations(arguments.fixed):
            loop.train(optuna.trial.FixedTrial(params))
    else:
        study = optuna.create_study(
            direction="maximize",
            storage=f"sqlite:///optuna-{int(time.time())}.db",
            sampler=optuna.samplers.TPESampler(seed=arguments.seed),
            pruner=optuna.pruners.MedianPruner() if arguments.prune else optuna.pruners.NopPruner(),
        )
        study.optimize(loop.train, n_trials=arguments.trials)
    searched = time.perf_counter() - began
    assert loop.best is not None
    value, params, model = loop.best
    print(
        json.dumps(
            {
                "seconds": searched,
                "ms_per_step": 1000 * loop.training_seconds / loop.steps_taken,
                "steps": loop.steps_taken,
                "best": params,
                "val_miou": value,
                "test_miou": loop.measure_miou(model, loop.stems["test"]),
                "threads": torch.get_num_threads(),
            }
        )
    )


if __name__ == "__main__":
    main()
