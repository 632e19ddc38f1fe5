"""Python text that trains with the recommended loss elsewhere: a plain loop, Lightning, nnU-Net, MMSegmentation.

Each is a module of its own that begins with the report's snippet (`criterion`, `optimizer_of`, `predict`). Only
sweeper's losses and the library that it is for are needed.
"""

from __future__ import annotations

import math

from sweeper.core.recipe import Recipe
from sweeper.core.records import IGNORE, Recommended, SweepRecord
from sweeper.data.folds import split_of
from sweeper.losses import FAMILIES

_PLAIN = '''"""A plain training loop with the loss that sweeper recommends, and with what its trainings had besides.

Give `fit` your network and your batches; `python {name}` tries it on random ones.
"""

import math

{snippet}

WARMUP, DECAY = {warmup!r}, {decay!r}  # shares of the steps over which the rate rises, and falls
PRIOR = {prior!r}  # where the output starts, so that no step is spent on learning how rare a class is


def schedule(steps):
    """Factor of the learning rate, by step."""
    return lambda step: min(1.0, (step + 1) / max(1.0, WARMUP * steps), (steps - step) / max(1.0, DECAY * steps))


def start_at_prior(last_convolution):
    """Set the bias of the network's last layer."""
    with torch.no_grad():
        last_convolution.bias.copy_(torch.tensor(PRIOR))


def fit(model, batches, steps, device="cpu"):
    """Train; `batches` gives (images (N, C, H, W) float, masks (N, H, W) integers). The loss of each step."""
    model = model.to(device).train()
    optimizer = optimizer_of(model)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule(steps))
    losses = []
    for _, (images, masks) in zip(range(steps), batches):
        loss = criterion(model(images.to(device)), masks.to(device))
        if not math.isfinite(float(loss.detach())):
            raise ValueError(f"the training diverged in step {{len(losses)}}; lower the learning rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        rate.step()
        losses.append(float(loss.detach()))
    return losses


def random_batches():
    """In place of your data."""
    while True:
        yield torch.rand(2, 3, 32, 32), torch.randint(0, {classes}, (2, 32, 32))


if __name__ == "__main__":
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, {outputs}, 1)
    )
    start_at_prior(network[-1])
    print("loss by step:", [round(loss, 4) for loss in fit(network, random_batches(), steps=8)])
    print("labels:", predict(network(torch.rand(1, 3, 32, 32))).shape)
'''

_LIGHTNING = '''"""The loss that sweeper recommends in a LightningModule.

    import lightning as L
    L.Trainer(max_steps=STEPS).fit(Segmentation(network, STEPS), train_dataloaders=loader)

Batches are (images (N, C, H, W) float, masks (N, H, W) integers).
"""

import lightning

{snippet}

WARMUP, DECAY = {warmup!r}, {decay!r}  # shares of the steps over which the rate rises, and falls


class Segmentation(lightning.LightningModule):
    """A network with the recommended loss, optimiser and operating point."""

    def __init__(self, network, steps):
        super().__init__()
        self.network, self.steps, self.criterion = network, steps, criterion

    def forward(self, images):
        return self.network(images)

    def training_step(self, batch, index):
        images, masks = batch
        loss = self.criterion(self.network(images), masks)
        self.log("train/loss", loss)
        return loss

    def predict_step(self, batch, index):
        return predict(self.network(batch[0] if isinstance(batch, (list, tuple)) else batch))

    def configure_optimizers(self):
        steps = self.steps
        optimizer = optimizer_of(self)
        factor = lambda step: max(  # noqa: E731
            0.0, min(1.0, (step + 1) / max(1.0, WARMUP * steps), (steps - step) / max(1.0, DECAY * steps))
        )
        rate = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {{"optimizer": optimizer, "lr_scheduler": {{"scheduler": rate, "interval": "step"}}}}
'''

_NNUNET = '''"""The loss that sweeper recommends as an nnU-Net trainer (nnU-Net 2).

Copy this file to nnunetv2/training/nnUNetTrainer/variants/loss/ and train with `-tr nnUNetTrainerSweeper`. Learning
rate, optimiser and augmentation stay nnU-Net's own. Slices of a volume are laid below each other.
"""

import numpy as np
import torch
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

{snippet}

class SweeperLoss(torch.nn.Module):
    """nnU-Net's shapes, logits (N, C, [D,] H, W) and target (N, 1, [D,] H, W), brought to the loss's."""

    def __init__(self, ignore_label):
        super().__init__()
        self.criterion, self.ignore_label = criterion, ignore_label

    def forward(self, logits, target):
        logits, target = logits.flatten(2, -2), target[:, 0].flatten(1, -2)
        labels = target.long()
        if self.ignore_label is not None:
            labels = torch.where(labels == self.ignore_label, {ignore}, labels){difference}
        return self.criterion(logits, labels)


class nnUNetTrainerSweeper(nnUNetTrainer):
    """nnU-Net's own training with another loss."""

    def _build_loss(self):
        if self.label_manager.has_regions:
            raise ValueError("the loss is for labels, and this data set has regions")
        loss = SweeperLoss(self.label_manager.ignore_label)
        if self.enable_deep_supervision:
            weights = np.array([1 / 2**i for i in range(len(self._get_deep_supervision_scales()))])
            # Parameters that get no gradient end distributed training: nnU-Net does the same.
            weights[-1] = 1e-6 if self.is_ddp and not self._do_i_compile() else 0
            loss = DeepSupervisionWrapper(loss, weights / weights.sum())
        return loss
'''

_MMSEG = '''"""The loss that sweeper recommends for MMSegmentation 1.x.

In the config:

    custom_imports = dict(imports=["mmseg_loss"])
    model = dict(decode_head=dict(loss_decode=dict(type="SweeperLoss")))

A data set of two classes has a head of num_classes=2, with softmax, or out_channels=1.
"""

import torch
from mmseg.registry import MODELS

{snippet}

@MODELS.register_module()
class SweeperLoss(torch.nn.Module):
    """Takes logits (N, C, H, W) and labels (N, H, W) from a decode head."""

    def __init__(self, loss_weight=1.0, loss_name="loss_sweeper"):
        super().__init__()
        self.criterion, self.loss_weight, self._name = criterion, loss_weight, loss_name

    def forward(self, cls_score, seg_label, weight=None, ignore_index={ignore}, **kwargs):
        if weight is not None:
            raise ValueError("the loss takes no weights of pixels; leave the sampler out of the head")
        logits, labels = cls_score, seg_label.long()
        labels = torch.where(labels == ignore_index, {ignore}, labels){difference}
        return self.loss_weight * self.criterion(logits, labels)

    @property
    def loss_name(self):
        return self._name
'''

_DIFFERENCE = """
        if logits.shape[1] == 2:  # softmax over two channels is the sigmoid of their difference
            logits = logits[:, 1:] - logits[:, :1]"""


EXAMPLES = {
    "train_plain.py": _PLAIN,
    "train_lightning.py": _LIGHTNING,
    "nnUNetTrainerSweeper.py": _NNUNET,
    "mmseg_loss.py": _MMSEG,
}
"""File name → its text, with gaps."""


def examples(sweep: SweepRecord, chosen: Recommended) -> dict[str, str]:
    """File name → Python text; none for a loss that needs more than logits and labels (maps of them).

    Args:
        sweep: the study.
        chosen: what it recommends.
    """
    if FAMILIES[chosen.family].needs_map:
        return {}
    conditions = sweep.conditions
    dataset, recipe = conditions.dataset, conditions.recipe
    binary = dataset.task == "binary"
    pixels = [max(1, int(n)) for n in conditions.pixels_seen(split_of(conditions, conditions.seed).train)]
    prior = [math.log(pixels[1] / pixels[0])] if binary else [math.log(n / sum(pixels)) for n in pixels]
    values = {
        "snippet": chosen.snippet.rstrip("\n") + "\n",
        "prior": [round(value, 4) for value in prior],
        "classes": len(dataset.classes),
        "outputs": len(prior),
        "ignore": IGNORE,
        "difference": _DIFFERENCE if binary else "",
        **_schedule(recipe),
    }
    return {name: text.format(name=name, **values) for name, text in EXAMPLES.items()}


def _schedule(recipe: Recipe) -> dict[str, float]:
    return {"warmup": recipe.warmup, "decay": recipe.decay}
