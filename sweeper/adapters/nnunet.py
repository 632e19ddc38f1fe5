"""nnU-Net v2 with sweeper's losses, started like `nnUNetv2_train`, with `--epochs` for a length other than 1,000:

    sweeper confirm --losses dice_ce,tversky --command "python -m sweeper.adapters.nnunet 42 2d 0 --epochs 50"

In a comparison the fold's validation cases are the test. The next fold's validation cases choose rate and operating
point, and are not trained on. Cases are scored at nnU-Net's training spacing. Results and logs are in the training's
folder, without checkpoints. Outside a comparison this is nnU-Net's own trainer. With `-num_gpus` above 1 nnU-Net looks
for trainers in its own folder: put a copy of this file into nnunetv2/training/nnUNetTrainer.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sweeper_trial import TrialError, trial

IN_COMPARISON = "SWEEPER_TRIAL" in os.environ
if IN_COMPARISON:  # nnU-Net reads it when imported
    os.environ["nnUNet_results"] = str(Path(os.environ["SWEEPER_TRIAL"]) / "nnunet")

from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run import run_training
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

NAME = "SweeperTrainer"


class _EndedError(Exception):
    """Sweeper ended the training."""


class SweeperTrainer(nnUNetTrainer):
    """nnU-Net's trainer with loss, rate, length and seed from sweeper."""

    epochs: float | None = None
    """Length in epochs of nnU-Net, also a fraction; None = nnU-Net's own."""

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),
    ) -> None:
        """Create the trainer with nnU-Net's arguments.

        Raises:
            TrialError: if the configuration is a cascade.
        """
        labels = {name: value for name, value in dataset_json["labels"].items() if name != "ignore"}
        self.ignored = dataset_json["labels"].get("ignore", 255)
        self.regions = [value for value in labels.values() if isinstance(value, (list, tuple))]
        names = sorted(labels, key=lambda name: 0 if self.regions else labels[name])
        if self.regions:  # nnU-Net's planes are in the order of dataset.json, without the background
            names = [name for name in names if np.any(labels[name])]
        self.regions = [np.atleast_1d(labels[name]) for name in names if self.regions]
        self.trial = trial(names, ignore_index=255 if self.regions else self.ignored, overlap=bool(self.regions))
        if IN_COMPARISON:
            for seeded in (random.seed, np.random.seed, torch.manual_seed):
                seeded(self.trial.seed)
            fold = fold if self.trial.fold is None else self.trial.fold
        super().__init__(plans, configuration, fold, dataset_json, device)
        if IN_COMPARISON and self.is_cascaded:
            raise TrialError(f"a configuration must be one network, got the cascade {configuration}; use another")

    def initialize(self) -> None:
        """Set rate and length, in iterations, from sweeper."""
        self.initial_lr = self.trial.lr(self.initial_lr)
        steps = self.trial.length(max(1, round((self.epochs or self.num_epochs) * self.num_iterations_per_epoch)))
        share = min(1.0, steps / self.num_iterations_per_epoch)
        self.num_iterations_per_epoch = round(self.num_iterations_per_epoch * share)
        self.num_val_iterations_per_epoch = max(1, round(self.num_val_iterations_per_epoch * share))
        self.num_epochs = max(1, round(steps / self.num_iterations_per_epoch))
        super().initialize()

    def _build_loss(self) -> Any:
        """Build sweeper's loss with nnU-Net's weights of deep supervision."""
        usual = super()._build_loss()
        if not IN_COMPARISON:
            return usual
        weights = getattr(usual, "weight_factors", None)
        if weights is None:
            return lambda output, target: self.trial.loss(output, self._mark_ignored(target))

        def supervise(outputs: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
            first, *others = zip(weights, outputs, map(self._mark_ignored, targets), strict=True)
            losses = [weight * self.trial.auxiliary_loss(z, y) for weight, z, y in others if weight]
            return torch.stack([first[0] * self.trial.loss(*first[1:]), *losses]).sum()

        return supervise

    def _mark_ignored(self, target: Tensor) -> Tensor:
        """Return a target with 255 for ignored pixels, if nnU-Net gives them a plane after those of the regions."""
        planes = len(self.regions) or target.shape[1]
        return torch.where(target[:, planes:].any(dim=1, keepdim=True), 255, target[:, :planes])

    def do_split(self) -> tuple[list[str], list[str]]:
        """Exclude the next fold's validation cases from the training."""
        if IN_COMPARISON and self.fold == "all":
            raise TrialError('fold must be a number, as the next fold is the validation, got "all"')
        train, test = super().do_split()
        if not IN_COMPARISON:
            return train, test
        folds = len(json.loads(Path(self.preprocessed_dataset_folder_base, "splits_final.json").read_text("utf-8")))
        if self.fold not in range(folds):
            raise TrialError(f"fold must be 0 to {folds - 1}, got {self.fold}")
        fold, self.fold = self.fold, (self.fold + 1) % folds
        val = super().do_split()[1]
        self.fold, self.cases = fold, {"val": val, "test": test}
        return [case for case in train if case not in {*val}], val

    def on_epoch_end(self) -> None:
        """Report the iterations, and end if sweeper requests it."""
        super().on_epoch_end()
        if IN_COMPARISON and self.trial.stop_after(self.current_epoch * self.num_iterations_per_epoch):
            raise _EndedError

    def run_training(self) -> None:
        """Train to the end, or until sweeper ends it."""
        try:
            super().run_training()
        except _EndedError:
            self.on_train_end()

    def save_checkpoint(self, filename: str) -> None:
        """Write no checkpoint in a comparison."""
        if not IN_COMPARISON:
            super().save_checkpoint(filename)

    @torch.no_grad()
    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Score the requested splits."""
        if not IN_COMPARISON:
            super().perform_actual_validation(save_probabilities)
            return
        self.set_deep_supervision_enabled(False)
        self.network.eval()
        predictor = nnUNetPredictor(
            device=self.device, perform_everything_on_device=self.device.type == "cuda", allow_tqdm=False
        )
        predictor.manual_initialization(
            self.network, self.plans_manager, self.configuration_manager, None, self.dataset_json, NAME,
            self.inference_allowed_mirroring_axes,
        )  # fmt: skip
        world = torch.distributed.get_world_size() if self.is_ddp else 1
        for split in filter(self.trial.wants, self.cases):
            names = self.cases[split][self.local_rank :: world]
            cases = self.dataset_class(self.preprocessed_dataset_folder, names)
            with self.trial.scoring(split) as scores:
                for name in names:
                    data, labels, *_ = cases.load_case(name)
                    logits = predictor.predict_sliding_window_return_logits(torch.from_numpy(np.asarray(data[:])))
                    target = torch.from_numpy(np.asarray(labels[:])[0]).long().clamp(min=0)  # −1: outside of the body
                    if self.regions:
                        planes = torch.stack([torch.isin(target, torch.as_tensor(region)) for region in self.regions])
                        target = torch.where(target == self.ignored, 255, planes.long())
                    scores.add(logits[None].float().cpu(), target[None], [name])


def train_nnunet() -> None:
    """Run `nnUNetv2_train` with its arguments and `--epochs`."""
    if "--epochs" in sys.argv:
        place = sys.argv.index("--epochs")
        SweeperTrainer.epochs = float(sys.argv[place + 1])
        del sys.argv[place : place + 2]
    find = run_training.recursive_find_python_class

    def find_trainer(folder: str, name: str, package: str) -> Any:
        found = SweeperTrainer if name == NAME else find(folder, name, package)
        if not issubclass(found or object, SweeperTrainer):
            raise TrialError(
                f"the trainer must be sweeper's, got -tr {name}; leave -tr out, or derive it from "
                "sweeper.adapters.nnunet.SweeperTrainer"
            )
        return found

    run_training.recursive_find_python_class = find_trainer
    if "-tr" not in sys.argv:
        sys.argv += ["-tr", NAME]
    run_training.run_training_entry()


if __name__ == "__main__":
    import_module("sweeper.adapters.nnunet").train_nnunet()  # by this name a trainer of your own derives from it
