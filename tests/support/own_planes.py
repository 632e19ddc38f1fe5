"""A training of the user's whose classes overlap: noise above two thresholds, by one convolution."""

import torch

from sweeper_trial import trial

fixed = torch.Generator().manual_seed(0)
images = torch.randn(20, 3, 32, 32, generator=fixed)
masks = torch.stack([images[:, 0] > 0.5, images[:, 0] > 1.2], 1)
train, val, test = range(12), range(12, 16), range(16, 20)

t = trial(classes=["cell", "nucleus"], overlap=True)
torch.manual_seed(t.seed)
net = torch.nn.Conv2d(3, 2, 3, padding=1)
optimizer = torch.optim.SGD(net.parameters(), lr=t.lr(1.5))


def score(split, numbers):
    """Score whole images."""
    with torch.no_grad(), t.scoring(split) as s:
        for n in numbers:
            s.add(net(images[n : n + 1]), masks[n : n + 1], [f"image {n}"])


for epoch in range(t.start, t.length(4)):
    for batch in torch.randperm(len(train)).split(2):
        loss = t.loss(net(images[batch]), masks[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    score("val", val)
    if t.stop_after(epoch + 1):
        break
if t.wants("test"):
    score("test", test)
