"""A Lightning training of a few tiny images, with sweeper's callback, for `sweeper confirm`."""

import logging
import sys
import warnings

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from sweeper.adapters.lightning import SweeperCallback
from sweeper_trial import trial

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
torch.set_num_threads(1)
overlaps = "overlaps" in sys.argv
t = trial(classes=["bright", "brighter"] if overlaps else ["background", "thing"], overlap=overlaps)
lightning.seed_everything(t.seed, verbose=False)


class Module(lightning.LightningModule):
    """One convolution in two steps."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1 + overlaps, 1))

    def training_step(self, batch, _):
        x, y, _ = batch
        return t.loss(self.net(x), y)

    def validation_step(self, batch, _):
        x, y, names = batch
        self.log("age", float(self.current_epoch))
        if "forgets_the_target" in sys.argv:
            return {"logits": self.net(x), "names": names}
        return {"logits": self.net(x), "target": y, "names": names}

    test_step = validation_step

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=t.lr(0.02))


fixed = torch.Generator().manual_seed(7)
images = torch.randn(20, 1, 16, 16, generator=fixed)
labels = (images > torch.tensor([0.5, 1.0]).view(2, 1, 1)) if overlaps else images[:, 0] > 0.5
data = TensorDataset(images, labels.long(), torch.arange(20))
train, val, test = (torch.utils.data.Subset(data, part) for part in (range(12), range(12, 16), range(16, 20)))
trainer = lightning.Trainer(
    max_epochs=t.length(4),
    accelerator="cpu",
    callbacks=[SweeperCallback(t), *([ModelCheckpoint("best", monitor="age")] if "best" in sys.argv else [])],
    logger=False,
    enable_checkpointing="best" in sys.argv,
    enable_progress_bar=False,
    enable_model_summary=False,
)
module = Module()
trainer.fit(module, DataLoader(train, batch_size=2, shuffle=True), DataLoader(val, batch_size=2))
if t.wants("test"):
    best = "best" if "best" in sys.argv else None  # the first epoch is
    trainer.test(module, DataLoader(test, batch_size=2), ckpt_path=best, verbose=False)
