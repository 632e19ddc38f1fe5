"""The loop people write: Optuna + segmentation-models-pytorch + DataLoader + MLflow, straightforward and not crippled.

Every trial decodes its images again, trains in float32 with AdamW and a one-cycle schedule, is evaluated on whole
validation images four times, and logs to MLflow at each evaluation. With `--tuned` it gets what a careful engineer
adds: autocast where bfloat16 is measured to be quicker, channels_last, fused AdamW, images decoded once into memory.

    python bench/plain_loop.py DATA [--trials 50] [--prune] [--tuned] [--loader-workers 0] [--fixed 8]

DATA holds images/, masks/ and a complete split.csv, e.g. from `bench/sweep.py`. Prints one JSON document: seconds,
milliseconds per step, the best trial with its validation mIoU, and that trial's mIoU on the test split at 0.5.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import optuna
import segmentation_models_pytorch as smp
import torch
from configurations import fixed_trials
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
EVALUATIONS = 4


class Crops(Dataset[tuple[Tensor, Tensor]]):
    """Random crops with flips of one split, read from the files each time (or kept, when tuned)."""

    def __init__(self, root: Path, stems: list[str], size: int, *, keep: bool) -> None:
        self.root, self.stems, self.size = root, stems, size
        self.kept = [read(root, stem) for stem in stems] if keep else None

    def __len__(self) -> int:
        return len(self.stems)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, mask = self.kept[index] if self.kept else read(self.root, self.stems[index])
        height, width = mask.shape
        top = int(torch.randint(0, max(1, height - self.size + 1), ()))
        left = int(torch.randint(0, max(1, width - self.size + 1), ()))
        image = image[top : top + self.size, left : left + self.size]
        mask = mask[top : top + self.size, left : left + self.size]
        if torch.rand(()) < 0.5:
            image, mask = image[:, ::-1], mask[:, ::-1]
        return to_tensor(image), torch.from_numpy(np.ascontiguousarray(mask)).float()


def read(root: Path, stem: str) -> tuple[np.ndarray, np.ndarray]:
    path = next((root / "images").glob(f"{stem}.*"))
    image = np.asarray(Image.open(path).convert("RGB"))
    mask = np.asarray(Image.open(root / "masks" / f"{stem}.png"))
    return image, (mask > 0).astype(np.uint8)


def to_tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(((image / 255 - MEAN) / STD).transpose(2, 0, 1).astype(np.float32))


class DiceCE(nn.Module):
    """The mixture of the tutorials."""

    def __init__(self, mix: float) -> None:
        super().__init__()
        self.mix, self.dice, self.ce = mix, smp.losses.DiceLoss("binary"), smp.losses.SoftBCEWithLogitsLoss()

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.mix * self.ce(logits, target) + (1 - self.mix) * self.dice(logits, target)


def suggest(trial: optuna.trial.BaseTrial, imbalance: float) -> tuple[nn.Module, float]:
    """Return a loss of segmentation-models-pytorch and a learning rate, from sweeper's default space."""
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


class Loop:
    """What all trials of one run share."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.root = Path(arguments.data)
        with (self.root / "split.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        self.stems = {side: [r["stem"] for r in rows if r["split"] == side] for side in ("train", "val", "test")}
        masks = [read(self.root, stem)[1] for stem in self.stems["train"]]
        share = float(np.mean([mask.mean() for mask in masks]))
        self.imbalance = (1 - share) / share
        self.crops = Crops(self.root, self.stems["train"], arguments.size, keep=arguments.tuned)
        self.bf16 = arguments.tuned and self.bfloat16_is_quicker()
        self.steps_taken, self.training_seconds = 0, 0.0
        self.best: tuple[float, dict[str, Any], nn.Module] | None = None

    def bfloat16_is_quicker(self) -> bool:
        """Compare three steps in turns of each precision, the first of which choose kernels."""
        batch = torch.stack([self.crops[0][0]] * self.arguments.batch_size).contiguous(
            memory_format=torch.channels_last
        )
        self.bf16, seconds, model = False, ([], []), self.model()
        for step in range(8):
            self.bf16 = step % 2 == 1
            began = time.perf_counter()
            with self.autocast():
                logits = model(batch)
            logits.float().mean().backward()
            if step > 1:
                seconds[self.bf16].append(time.perf_counter() - began)
        return sorted(seconds[True])[1] < sorted(seconds[False])[1]

    def autocast(self) -> Any:
        return torch.autocast("cpu", dtype=torch.bfloat16) if self.bf16 else nullcontext()

    def model(self) -> nn.Module:
        model = smp.Unet(
            "resnet18",
            encoder_depth=3,
            encoder_weights=None,
            decoder_channels=(32, 16, 8),
            in_channels=3,
            classes=1,
        )
        return model.to(memory_format=torch.channels_last) if self.arguments.tuned else model

    def train(self, trial: optuna.trial.BaseTrial) -> float:
        loss_function, lr = suggest(trial, self.imbalance)
        arguments = self.arguments
        model = self.model()
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
                        value = self.miou(model, self.stems["val"])
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
    def miou(self, model: nn.Module, stems: list[str]) -> float:
        """Return the mIoU from confusion counts summed over whole images, at 0.5; images padded to the stride."""
        model.eval()
        counts = np.zeros((2, 2), dtype=np.int64)
        for stem in stems:
            image, mask = read(self.root, stem)
            height, width = mask.shape
            padded = nn.functional.pad(to_tensor(image)[None], (0, -width % 8, 0, -height % 8))
            with self.autocast():
                answer = (model(padded)[0, 0, :height, :width] > 0).numpy()
            for truth in (0, 1):
                for said in (0, 1):
                    counts[truth, said] += int(((mask == truth) & (answer == said)).sum())
        hits = np.diag(counts)
        return float(np.mean(hits / np.maximum(1, counts.sum(0) + counts.sum(1) - hits)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--fixed", type=int, default=0, help="train so many fixed configurations instead of a search")
    parser.add_argument("--prune", action="store_true", help="Optuna's MedianPruner")
    parser.add_argument("--tuned", action="store_true")
    parser.add_argument("--loader-workers", type=int, default=0)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.manual_seed(arguments.seed)
    began = time.perf_counter()
    loop = Loop(arguments)
    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    mlflow.set_experiment(f"plain-{int(time.time())}")
    if arguments.fixed:
        for params in fixed_trials(arguments.fixed):
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
                "test_miou": loop.miou(model, loop.stems["test"]),
                "threads": torch.get_num_threads(),
            }
        )
    )


if __name__ == "__main__":
    main()
