"""A plain training in which sweeper can compare losses.

    python examples/train_plain.py DATA

    sweeper probe --command "python examples/train_plain.py DATA"
    sweeper confirm --losses dice_ce,tversky --command "python examples/train_plain.py DATA"

DATA has images/ and masks/ of the same names, as `sweeper synth 'cracks?images=20&size=64&foreground=0.08' DATA` writes
them. Lines with `t.` are for sweeper, all others the script's own.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from sweeper_trial import trial

EPOCHS, RATE = 20, 0.01


class Images(Dataset):
    """Every fifth image is for the test, every fifth for validation, all others are trained on."""

    def __init__(self, root, split):
        places = {"test": (0,), "val": (1,), "train": (2, 3, 4)}[split]
        found = sorted((root / "images").iterdir())
        self.paths = [path for n, path in enumerate(found) if n % 5 in places]
        self.masks = root / "masks"

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        path = self.paths[index]
        pixels = np.array(Image.open(path).convert("RGB"), dtype=np.float32) / 255 - 0.5
        mask = np.array(Image.open(self.masks / f"{path.stem}.png")) > 0
        return torch.from_numpy(pixels).permute(2, 0, 1), torch.from_numpy(mask).long(), path.stem


def network():
    """Three convolutions."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1)
    )


def main(root):
    """Train, and score."""
    t = trial(classes=["background", "crack"])
    torch.manual_seed(t.seed)
    net = network()
    optimizer = torch.optim.Adam(net.parameters(), lr=t.lr(RATE))
    train = DataLoader(Images(root, "train"), batch_size=2, shuffle=True)

    def score(split):
        net.eval()
        with torch.no_grad(), t.scoring(split) as s:
            for x, y, names in DataLoader(Images(root, split), batch_size=2):
                s.add(net(x), y, names)
        net.train()

    for epoch in range(t.start, t.length(EPOCHS)):
        for x, y, _ in train:
            loss = t.loss(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        score("val")
        if t.stop_after(epoch + 1):
            break
    if t.wants("test"):
        score("test")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
