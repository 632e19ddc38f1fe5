"""A training of a few tiny images; the words of its command line are its faults, `seeds+N` shifts its seeds.

`widens_labels_of_FAMILY_in_N` plants a true gap: with that loss N of the twelve training images have wider labels.
"""

import sys
import time

FAULTS = {*sys.argv[1:]}


def main() -> None:
    if "crashes_at_once" in FAULTS:
        raise RuntimeError("the disk is gone")
    if "hangs" in FAULTS:
        print("waiting for the data")
        time.sleep(600)
    if "never_imports" in FAULTS:
        print("trained without it")
        return
    import torch
    from torch import nn

    from sweeper_trial import trial

    torch.set_num_threads(1)
    t = trial(classes=["background", "thing"], seed=3)
    shift = next((int(word.removeprefix("seeds+")) for word in FAULTS if word.startswith("seeds+")), 0)
    seed = 5 if "ignores_the_seed" in FAULTS else t.seed + shift
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1))
    rate = 0.05 if "ignores_the_rate" in FAULTS else t.lr(0.05)
    optimizer = torch.optim.SGD(net.parameters(), lr=rate)
    fixed = torch.Generator().manual_seed(7)
    count = 60 if "has_many_test_images" in FAULTS else 20
    images = torch.randn(count, 1, 16, 16, generator=fixed)
    if "is_nan" in FAULTS:
        images[:] = float("nan")
    labels = (images[:, 0] > 0.5).long()
    if "masks_of_255" in FAULTS:
        labels *= 255
    order = torch.Generator()
    order.seed() if "shuffles_unseeded" in FAULTS else order.manual_seed(seed)
    own_loss = nn.BCEWithLogitsLoss()
    widened = [int(word.rsplit("_", 1)[1]) for word in FAULTS if word.startswith(f"widens_labels_of_{t.family}_in_")]
    learned = labels.clone()
    for count_widened in widened:  # a pixel and its right neighbour
        learned[:count_widened, :, 1:] |= labels[:count_widened, :, :-1]

    def score(split: str, places: range) -> None:
        trained = nn.Conv2d(1, 1, 1) if "scores_another_network" in FAULTS else net
        if "scores_another_network" in FAULTS:
            nn.init.constant_(trained.weight, 0.3)
            nn.init.zeros_(trained.bias)
        with torch.no_grad(), t.scoring(split) as s:
            for n in places:
                s.add(trained(images[n : n + 1]), labels[n : n + 1], [f"image{n}"])

    for epoch in range(t.start, t.length(80 if "trains_long" in FAULTS else 8)):
        for batch in torch.randperm(12, generator=order).view(-1, 2):
            z = net(images[batch])
            loss = own_loss(z[:, 0], learned[batch].float())
            requested = t.loss(z, learned[batch])
            loss = loss if "ignores_the_loss" in FAULTS else requested
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        if t.stop_after(epoch + 1) or (epoch == 1 and f"stops_{t.family}_early" in FAULTS):
            break
    score("val", range(12, 16))
    score("test", range(16, count))


main()
