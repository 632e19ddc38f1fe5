"""Lightning: a callback that reports the scores of validation and test to sweeper.

    t = trial(classes=["background", "crack"])
    lightning.seed_everything(t.seed)
    trainer = lightning.Trainer(max_epochs=t.length(100), callbacks=[SweeperCallback(t)])

The module uses `t.loss` in `training_step` and `t.lr(RATE)` in `configure_optimizers`; its `validation_step` and
`test_step` return {"logits": …, "target": …, "names": …} of the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning

from sweeper_trial import Scoring, Trial, TrialError

KEYS = ("logits", "target", "names")


class SweeperCallback(lightning.Callback):
    """Counts every validation and the test, and ends the training when sweeper requests it."""

    def __init__(self, trial: Trial) -> None:
        """Create the callback; `trial` is the script's trial."""
        self.trial = trial
        self._scoring: Scoring | None = None

    def on_validation_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin the scores of validation, except in Lightning's sanity check of a few batches."""
        self._scoring = None if trainer.sanity_checking else self.trial.scoring("val")

    def on_test_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin the scores of the test."""
        self._scoring = self.trial.scoring("test")

    def on_validation_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any, **__: Any) -> None:
        """Add a batch of validation."""
        self._add("validation_step", outputs)

    def on_test_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any, **__: Any) -> None:
        """Add a batch of the test."""
        self._add("test_step", outputs)

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write the scores."""
        if self._scoring is not None:
            self._scoring.close()

    on_test_epoch_end = on_validation_epoch_end

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Report the epoch, and end the training on all ranks if sweeper requests it."""
        trainer.should_stop |= self.trial.stop_after(trainer.current_epoch + 1)

    def _add(self, step: str, outputs: Any) -> None:
        if self._scoring is None:
            return
        if not isinstance(outputs, Mapping) or not outputs.keys() >= {*KEYS}:
            got = list(outputs) if isinstance(outputs, Mapping) else type(outputs).__name__
            raise TrialError(f'{step} must return {{"logits": …, "target": …, "names": …}}, got {got}')
        self._scoring.add(*(outputs[key] for key in KEYS))
