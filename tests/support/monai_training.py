"""A MONAI training on tiny volumes, as in docs/how-to/your-training.md."""

import torch
from monai.data import DataLoader, Dataset
from monai.inferers import sliding_window_inference
from monai.networks.nets import UNet
from monai.utils import set_determinism

from sweeper_trial import trial

torch.set_num_threads(1)
t = trial(classes=["background", "lesion"])
set_determinism(t.seed)
fixed = torch.Generator().manual_seed(7)
images = torch.randn(10, 1, 16, 16, 16, generator=fixed)
cases = [
    {"image": image, "label": (image > 0.8).float(), "name": f"case{n}"}  # labels (1, H, W, D), as MONAI loads them
    for n, image in enumerate(images)
]
net = UNet(spatial_dims=3, in_channels=1, out_channels=2, channels=(4, 8), strides=(2,))
optimizer = torch.optim.Adam(net.parameters(), lr=t.lr(0.01))


def score(split, part):
    net.eval()
    with torch.no_grad(), t.scoring(split) as s:
        for batch in DataLoader(Dataset(part), batch_size=1):
            s.add(sliding_window_inference(batch["image"], (16, 16, 16), 1, net), batch["label"], batch["name"])
    net.train()


for epoch in range(t.start, t.length(3)):
    for batch in DataLoader(Dataset(cases[:6]), batch_size=2, shuffle=True):
        loss = t.loss(net(batch["image"]), batch["label"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if t.stop_after(epoch + 1):
        break
score("val", cases[6:8])
if t.wants("test"):
    score("test", cases[8:])
