"""Forward + backward of every loss family against the fastest counterpart of the common libraries.

Counterparts: segmentation-models-pytorch, MONAI, kornia, torchvision and torch, as far as they have the loss; MONAI and
kornia are used when they are installed. They do the same job as ours: with their option to ignore pixels where they
have one, torch and torchvision with a mask; where a paper's code is all there is, its formula, with a mask; MONAI's
generalised Dice, clDice and boundary loss, and kornia's Lovász cannot ignore, and do less. Ours and the counterparts
take turns in one process, and with one thread the processor's time is taken, so that the ratio hardly depends on what
else the machine does; medians, with quartiles of the ratio of neighbouring repetitions. Memory is the peak of tensors
allocated within forward + backward, beyond the inputs: from torch's profiler on the CPU, from the allocator on a GPU.

    python bench/losses.py [--device cuda] [--crops] [--repetitions 7] [--family NAME …] [--threads 1]
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import segmentation_models_pytorch as smp
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torchvision.ops import sigmoid_focal_loss

from sweeper.core.text import format_count
from sweeper.losses import FAMILIES, build_loss

SHAPES = {"binary": (16, 1, 256, 256), "multiclass": (8, 11, 256, 256)}
CROPS = {"binary": (8, 1, 96, 96), "multiclass": (8, 11, 96, 96)}
"""Batches of the recipe for a CPU."""
TASKS = tuple(SHAPES)
IGNORE = 255
Loss = Callable[[Tensor, Tensor], Tensor]


class Batch(NamedTuple):
    logits: Tensor
    target: Tensor


def make_batch(task: str, shape: tuple[int, ...], dtype: torch.dtype, device: str) -> Batch:
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(shape, generator=rng).to(dtype)
    spatial = (shape[0], *shape[2:])
    if task == "binary":
        target = (torch.rand(spatial, generator=rng) < 0.05).long()
    else:
        target = torch.randint(0, shape[1], spatial, generator=rng)
    return Batch(logits.to(device), target.to(device))


def library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def combined(overlap: Loss, pixels: Loss) -> Loss:
    return lambda z, y: 0.5 * overlap(z, y) + 0.5 * pixels(z, y)


def hardest(z: Tensor, y: Tensor) -> Tensor:
    """nnU-Net's TopKLoss with k = 10."""
    if z.shape[1] == 1:
        mask = y != IGNORE
        each = (
            F.binary_cross_entropy_with_logits(z.squeeze(1), (y * mask).to(z.dtype), reduction="none") * mask
        ).flatten()
    else:
        each = F.cross_entropy(z, y, ignore_index=IGNORE, reduction="none").flatten()
    return torch.topk(each, each.numel() // 10, sorted=False).values.mean()


def cross_entropy(z: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(z, y, ignore_index=IGNORE) if z.shape[1] > 1 else masked(z, y)


def weighted(z: Tensor, y: Tensor) -> Tensor:
    if z.shape[1] == 1:
        return masked(z, y, torch.tensor(8.0, device=z.device, dtype=z.dtype))
    return F.cross_entropy(z, y, torch.ones(z.shape[1], device=z.device, dtype=z.dtype), ignore_index=IGNORE)


def masked(z: Tensor, y: Tensor, pos_weight: Tensor | None = None) -> Tensor:
    """Torch's binary cross-entropy as it is used where some pixels have no label."""
    mask = y != IGNORE
    labels = (y * mask).to(z.dtype)
    each = F.binary_cross_entropy_with_logits(z.squeeze(1), labels, reduction="none", pos_weight=pos_weight)
    return (each * mask).sum() / mask.sum()


def torchvision_focal(z: Tensor, y: Tensor) -> Tensor:
    mask = y != IGNORE
    return (sigmoid_focal_loss(z[:, 0], (y * mask).to(z.dtype), 0.25, 2.0) * mask).sum() / mask.sum()


def adjusted(z: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of logits plus log priors."""
    if z.shape[1] == 1:
        return masked(z - 2.0, y)
    shift = torch.zeros(z.shape[1], device=z.device, dtype=z.dtype)
    return F.cross_entropy(z + shift.view(-1, 1, 1), y, ignore_index=IGNORE)


def own_surprise(z: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of each labelled pixel."""
    if z.shape[1] > 1:
        return F.cross_entropy(z, y, ignore_index=IGNORE, reduction="none")[y != IGNORE]
    mask = y != IGNORE
    return F.binary_cross_entropy_with_logits(z.squeeze(1), (y * mask).to(z.dtype), reduction="none")[mask]


def hard_examples(z: Tensor, y: Tensor) -> Tensor:
    """BiSeNet's OhemCELoss."""
    found = own_surprise(z, y)
    number = found.numel() // 16
    hard = found[found > 0.3567]
    return (hard if hard.numel() >= number else found.topk(number)[0]).mean()


def counterparts(task: str) -> dict[str, dict[str, Loss]]:
    """Return for each family the calls that people would make, by library."""
    binary = task == "binary"
    monai, kornia = library("monai.losses"), library("kornia.losses")
    shape: dict[str, Any] = {"sigmoid": True} if binary else {"softmax": True, "to_onehot_y": True}
    ignoring = {**shape, "batch": True, "ignore_index": IGNORE}

    def monai_call(loss: Any) -> Loss:
        return lambda z, y: loss(z, y.unsqueeze(1))

    found: dict[str, dict[str, Loss]] = {"cross_entropy": {"torch": cross_entropy}, "weighted_ce": {"torch": weighted}}
    found["focal"] = {"smp": smp.losses.FocalLoss(task, alpha=0.25 if binary else None, gamma=2.0, ignore_index=IGNORE)}
    if binary:
        found["focal"]["torchvision"] = torchvision_focal
    found["dice"] = {"smp": smp.losses.DiceLoss(task, ignore_index=IGNORE)}
    found["jaccard"] = {"smp": smp.losses.TverskyLoss(task, alpha=1.0, beta=1.0, ignore_index=IGNORE)}
    found["tversky"] = {"smp": smp.losses.TverskyLoss(task, alpha=0.3, beta=0.7, ignore_index=IGNORE)}
    found["focal_tversky"] = {"smp": smp.losses.TverskyLoss(task, alpha=0.3, beta=0.7, gamma=0.75, ignore_index=IGNORE)}
    found["lovasz"] = {"smp": smp.losses.LovaszLoss(task, ignore_index=IGNORE)}
    if monai is not None:
        found["dice"]["monai"] = monai_call(monai.DiceLoss(**ignoring))
        found["jaccard"]["monai"] = monai_call(monai.DiceLoss(jaccard=True, **ignoring))
        found["tversky"]["monai"] = monai_call(monai.TverskyLoss(alpha=0.3, beta=0.7, **ignoring))
        found["focal"]["monai"] = monai_call(
            monai.FocalLoss(gamma=2.0, alpha=0.25, ignore_index=IGNORE)
            if binary
            else monai.FocalLoss(use_softmax=True, to_onehot_y=True, ignore_index=IGNORE)
        )
        found["generalized_dice"] = {"monai": monai_call(monai.GeneralizedDiceLoss(batch=True, **shape))}
        found["soft_cldice"] = {
            "monai": combined(monai_call(monai.DiceLoss(**ignoring)), monai_call(monai.SoftclDiceLoss(**shape)))
        }
        if binary:
            unified = monai.AsymmetricUnifiedFocalLoss()
            found["unified_focal"] = {"monai": lambda z, y: unified(z.sigmoid(), y.unsqueeze(1))}
        found["boundary"] = {
            "monai": combined(monai_call(monai.DiceLoss(**ignoring)), monai_call(monai.BoundaryLoss(**shape)))
        }
    if kornia is not None:
        if binary:
            focal = kornia.BinaryFocalLossWithLogits(alpha=0.25, gamma=2.0, reduction="mean", ignore_index=IGNORE)
            found["focal"]["kornia"] = lambda z, y: focal(z, y.unsqueeze(1))
            found["lovasz"]["kornia"] = kornia.LovaszHingeLoss()
        else:
            found["focal"]["kornia"] = kornia.FocalLoss(alpha=None, gamma=2.0, reduction="mean", ignore_index=IGNORE)
            found["dice"]["kornia"] = kornia.DiceLoss(average="macro", ignore_index=IGNORE)
            found["tversky"]["kornia"] = kornia.TverskyLoss(alpha=0.3, beta=0.7, ignore_index=IGNORE)
            found["lovasz"]["kornia"] = kornia.LovaszSoftmaxLoss()
    found["dice_ce"] = {name: combined(loss, cross_entropy) for name, loss in found["dice"].items()}
    found["dice_focal"] = {
        name: combined(loss, found["focal"][name]) for name, loss in found["dice"].items() if name in found["focal"]
    }

    found["topk_ce"] = {"nnU-Net": hardest}
    found["logit_adjusted"] = {"torch": adjusted}
    found["ohem_ce"] = {"BiSeNet": hard_examples}
    found["dice_topk"] = {f"{name} + nnU-Net": combined(loss, hardest) for name, loss in found["dice"].items()}
    return found


def ours(family: str, task: str, classes: int, batch: Batch) -> Loss:
    free = FAMILIES[family].coordinates[task]
    given = {name: 8.0 for name in ("pos_weight", "prior_odds") if name in free and free[name].default is None}
    frequencies = tuple(1.0 for _ in range(classes)) if task == "multiclass" else None
    loss = build_loss(family, task=task, class_frequencies=frequencies, **given)
    if FAMILIES[family].needs_map is not None:
        # As in training: the maps come with the batch.
        distance = torch.ones_like(batch.logits, dtype=torch.float16)
        return lambda z, y: loss(z, y, distance=distance)
    return loss


def step(loss: Loss, batch: Batch, device: str) -> None:
    leaf = batch.logits.detach().requires_grad_()
    with torch.autocast(device, dtype=torch.bfloat16, enabled=leaf.dtype == torch.bfloat16):
        value = loss(leaf, batch.target)
    torch.autograd.grad(value, leaf)


def milliseconds(loss: Loss, batch: Batch, device: str) -> float:
    if device == "cuda":
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        step(loss, batch, device)
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end))
    # One thread's own time does not hold what the machine does besides.
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    began = clock()
    step(loss, batch, device)
    return 1000 * (clock() - began)


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Keep standard error silent: the profiler announces itself there each time, from below Python."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def peak_mebibytes(loss: Loss, batch: Batch, device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(loss, batch, device)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    activity = [torch.profiler.ProfilerActivity.CPU]
    with silent(), torch.profiler.profile(activities=activity, profile_memory=True) as profile:
        step(loss, batch, device)
    now = peak = 0
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak / 2**20


def works(loss: Loss, batch: Batch, device: str) -> bool:
    try:
        step(loss, batch, device)
    except (RuntimeError, TypeError, ValueError) as error:
        print(f"<!-- a counterpart does not run: {type(error).__name__}: {str(error).splitlines()[0][:100]} -->")
        return False
    return True


def row(
    family: str, task: str, batch: Batch, rivals: dict[str, Loss], *, device: str, repetitions: int
) -> float | None:
    """Measure one family, print its row, and give the ratio to the fastest counterpart."""
    mine = ours(family, task, batch.logits.shape[1], batch)
    step(mine, batch, device)
    runs = {"sweeper": mine} | {name: loss for name, loss in rivals.items() if works(loss, batch, device)}
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repetitions):
        for name, loss in runs.items():
            taken[name].append(milliseconds(loss, batch, device))
    middle = {name: statistics.median(values) for name, values in taken.items()}
    memory = peak_mebibytes(mine, batch, device)
    cells = [family, task, str(batch.logits.dtype).removeprefix("torch."), f"{middle['sweeper']:.2f}"]
    if len(runs) == 1:
        print("| " + " | ".join([*cells, "none", "", "", f"{memory:.0f}", ""]) + " |", flush=True)
        return None
    best = min((name for name in runs if name != "sweeper"), key=lambda name: middle[name])
    ratios = [theirs / own for theirs, own in zip(taken[best], taken["sweeper"], strict=True)]
    low, ratio, high = statistics.quantiles(ratios, n=4)
    theirs_memory = peak_mebibytes(runs[best], batch, device)
    cells += [best, f"{middle[best]:.2f}", f"{ratio:.2f} ({low:.2f}–{high:.2f})"]
    print("| " + " | ".join([*cells, f"{memory:.0f}", f"{theirs_memory:.0f}"]) + " |", flush=True)
    return ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--crops", action="store_true", help="batches as small as in training on a CPU")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--family", action="append", choices=list(FAMILIES), help="only these")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.filterwarnings("ignore")
    where = torch.cuda.get_device_name() if arguments.device == "cuda" else torch.backends.cpu.get_cpu_capability()
    threads = format_count(arguments.threads, "thread")
    print(f"{arguments.device}: {where}, {threads}, torch {torch.__version__}; forward + backward,")
    print(f"medians of {arguments.repetitions} alternating repetitions; ratio: counterpart / ours (quartiles).\n")
    print("| family | task | logits | ours ms | fastest other | its ms | ratio | ours MiB | its MiB |")
    print("|---|---|---|---|---|---|---|---|---|")
    ratios = []
    for task, shape in (CROPS if arguments.crops else SHAPES).items():
        rivals = counterparts(task)
        for dtype in (torch.float32, torch.bfloat16):
            batch = make_batch(task, shape, dtype, arguments.device)
            here = [name for name, known in FAMILIES.items() if task in known.tasks]
            for family in arguments.family or here:
                given = {"device": arguments.device, "repetitions": arguments.repetitions}
                found = row(family, task, batch, rivals.get(family, {}), **given)
                if found is not None:
                    ratios.append(found)
    if ratios:
        slower = sum(ratio < 1 for ratio in ratios)
        print(f"\nMedian ratio {statistics.median(ratios):.2f} over {len(ratios)} rows; {slower} rows below 1.")


if __name__ == "__main__":
    main()
