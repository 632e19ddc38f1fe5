"""A training on two processes that share train, validation and test images, as `torchrun` starts it."""

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from sweeper_trial import trial


def main() -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    t = trial(classes=["sky", "road", "tree"])
    torch.manual_seed(t.seed)
    net = DistributedDataParallel(nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1)))
    optimizer = torch.optim.SGD(net.parameters(), lr=t.lr(0.05))
    images = torch.randn(28, 1, 16, 16, generator=torch.Generator().manual_seed(7))
    labels = images[:, 0].sign().long() + 1
    data = TensorDataset(images, labels, torch.arange(28))

    def loader(places: range, shuffle: bool) -> DataLoader:
        part = torch.utils.data.Subset(data, places)
        return DataLoader(part, 2, sampler=DistributedSampler(part, shuffle=shuffle, seed=t.seed))

    def score(split: str, places: range) -> None:
        with torch.no_grad(), t.scoring(split) as s:
            for x, y, numbers in loader(places, shuffle=False):
                s.add(net.module(x), y, [f"image{n}" for n in numbers.tolist()])

    for epoch in range(t.start, t.length(4)):
        for x, y, _ in loader(range(18), shuffle=True):
            optimizer.zero_grad()
            t.loss(net(x), y).backward()
            optimizer.step()
        score("val", range(18, 23))  # five images on two ranks: one is there twice
        if t.stop_after(epoch + 1):
            break
    if t.wants("test"):
        score("test", range(23, 28))
    distributed.destroy_process_group()


main()
