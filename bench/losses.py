"""Time forward + backward of every loss family, next to the fastest counterpart of the common libraries.

    python bench/losses.py [--device cuda] [--crops] [--repetitions 7] [--family NAME …] [--threads 1]

Counterparts come from segmentation-models-pytorch, torchvision and torch, and from MONAI and kornia if these are
installed (extra `oracles`). They do the same as ours: pixels without a label are left out by their option, if they have
one, else by a mask. If there is only the code of a paper, its formula is used, with a mask. MONAI's generalised Dice,
clDice and boundary loss, and kornia's Lovász do less: they cannot leave out pixels.

Prints for each family, task and dtype: median milliseconds of ours and of the fastest counterpart, their ratio with its
quartiles over the repetitions, and the peak of tensors allocated in forward + backward, without the inputs (from
torch's profiler on a CPU, from the allocator on a GPU). Ours and the counterparts take turns in one process. With one
thread the processor's time is taken, so the ratio hardly depends on other programs.
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

from sweeper.core.records import Task
from sweeper.core.text import format_count
from sweeper.losses import FAMILIES, build_loss

SHAPES: dict[Task, tuple[int, ...]] = {"binary": (16, 1, 256, 256), "multiclass": (8, 11, 256, 256)}
CROPS: dict[Task, tuple[int, ...]] = {"binary": (8, 1, 96, 96), "multiclass": (8, 11, 96, 96)}
"""Batches as small as in training on a CPU."""
IGNORE = 255
Loss = Callable[[Tensor, Tensor], Tensor]


class Batch(NamedTuple):
    logits: Tensor
    target: Tensor


def make_batch(task: Task, shape: tuple[int, ...], dtype: torch.dtype, device: str) -> Batch:
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(shape, generator=rng).to(dtype)
    spatial = (shape[0], *shape[2:])
    if task == "binary":
        target = (torch.rand(spatial, generator=rng) < 0.05).long()
    else:
        target = torch.randint(0, shape[1], spatial, generator=rng)
    return Batch(logits.to(device), target.to(device))


def import_library(name: str) -> Any:
    """Return the module, or None if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def mix_losses(overlap: Loss, pixels: Loss) -> Loss:
    """Return the mean of two losses."""
    return lambda z, y: 0.5 * overlap(z, y) + 0.5 * pixels(z, y)


def compute_top_k(z: Tensor, y: Tensor) -> Tensor:
    """Compute nnU-Net's TopKLoss with k = 10."""
    if z.shape[1] == 1:
        mask = y != IGNORE
        each = (
            F.binary_cross_entropy_with_logits(z.squeeze(1), (y * mask).to(z.dtype), reduction="none") * mask
        ).flatten()
    else:
        each = F.cross_entropy(z, y, ignore_index=IGNORE, reduction="none").flatten()
    return torch.topk(each, each.numel() // 10, sorted=False).values.mean()


def compute_cross_entropy(z: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(z, y, ignore_index=IGNORE) if z.shape[1] > 1 else compute_masked_bce(z, y)


def compute_weighted_ce(z: Tensor, y: Tensor) -> Tensor:
    if z.shape[1] == 1:
        return compute_masked_bce(z, y, torch.tensor(8.0, device=z.device, dtype=z.dtype))
    return F.cross_entropy(z, y, torch.ones(z.shape[1], device=z.device, dtype=z.dtype), ignore_index=IGNORE)


def compute_masked_bce(z: Tensor, y: Tensor, pos_weight: Tensor | None = None) -> Tensor:
    """Compute torch's binary cross-entropy over the pixels that have a label."""
    mask = y != IGNORE
    labels = (y * mask).to(z.dtype)
    each = F.binary_cross_entropy_with_logits(z.squeeze(1), labels, reduction="none", pos_weight=pos_weight)
    return (each * mask).sum() / mask.sum()


def compute_torchvision_focal(z: Tensor, y: Tensor) -> Tensor:
    mask = y != IGNORE
    return (sigmoid_focal_loss(z[:, 0], (y * mask).to(z.dtype), 0.25, 2.0) * mask).sum() / mask.sum()


def compute_logit_adjusted(z: Tensor, y: Tensor) -> Tensor:
    """Compute cross-entropy of logits plus log priors."""
    if z.shape[1] == 1:
        return compute_masked_bce(z - 2.0, y)
    shift = torch.zeros(z.shape[1], device=z.device, dtype=z.dtype)
    return F.cross_entropy(z + shift.view(-1, 1, 1), y, ignore_index=IGNORE)


def compute_labelled_ce(z: Tensor, y: Tensor) -> Tensor:
    """Compute the cross-entropy of each labelled pixel."""
    if z.shape[1] > 1:
        return F.cross_entropy(z, y, ignore_index=IGNORE, reduction="none")[y != IGNORE]
    mask = y != IGNORE
    return F.binary_cross_entropy_with_logits(z.squeeze(1), (y * mask).to(z.dtype), reduction="none")[mask]


def compute_ohem(z: Tensor, y: Tensor) -> Tensor:
    """Compute BiSeNet's OhemCELoss."""
    each = compute_labelled_ce(z, y)
    number = each.numel() // 16
    hard = each[each > 0.3567]
    return (hard if hard.numel() >= number else each.topk(number)[0]).mean()


def make_counterparts(task: Task) -> dict[str, dict[str, Loss]]:
    """Return the counterparts of each family, by library."""
    binary = task == "binary"
    monai, kornia = import_library("monai.losses"), import_library("kornia.losses")
    shape: dict[str, Any] = {"sigmoid": True} if binary else {"softmax": True, "to_onehot_y": True}
    options = {**shape, "batch": True, "ignore_index": IGNORE}

    def call_monai(loss: Any) -> Loss:
        return lambda z, y: loss(z, y.unsqueeze(1))

    counterparts: dict[str, dict[str, Loss]] = {
        "cross_entropy": {"torch": compute_cross_entropy},
        "weighted_ce": {"torch": compute_weighted_ce},
    }
    counterparts["focal"] = {
        "smp": smp.losses.FocalLoss(task, alpha=0.25 if binary else None, gamma=2.0, ignore_index=IGNORE)
    }
    if binary:
        counterparts["focal"]["torchvision"] = compute_torchvision_focal
    counterparts["dice"] = {"smp": smp.losses.DiceLoss(task, ignore_index=IGNORE)}
    counterparts["jaccard"] = {"smp": smp.losses.TverskyLoss(task, alpha=1.0, beta=1.0, ignore_index=IGNORE)}
    counterparts["tversky"] = {"smp": smp.losses.TverskyLoss(task, alpha=0.3, beta=0.7, ignore_index=IGNORE)}
    counterparts["focal_tversky"] = {
        "smp": smp.losses.TverskyLoss(task, alpha=0.3, beta=0.7, gamma=0.75, ignore_index=IGNORE)
    }
    counterparts["lovasz"] = {"smp": smp.losses.LovaszLoss(task, ignore_index=IGNORE)}
    if monai is not None:
        counterparts["dice"]["monai"] = call_monai(monai.DiceLoss(**options))
        counterparts["jaccard"]["monai"] = call_monai(monai.DiceLoss(jaccard=True, **options))
        counterparts["tversky"]["monai"] = call_monai(monai.TverskyLoss(alpha=0.3, beta=0.7, **options))
        counterparts["focal"]["monai"] = call_monai(
            monai.FocalLoss(gamma=2.0, alpha=0.25, ignore_index=IGNORE)
            if binary
            else monai.FocalLoss(use_softmax=True, to_onehot_y=True, ignore_index=IGNORE)
        )
        counterparts["generalized_dice"] = {"monai": call_monai(monai.GeneralizedDiceLoss(batch=True, **shape))}
        counterparts["soft_cldice"] = {
            "monai": mix_losses(call_monai(monai.DiceLoss(**options)), call_monai(monai.SoftclDiceLoss(**shape)))
        }
        if binary:
            unified = monai.AsymmetricUnifiedFocalLoss()
            counterparts["unified_focal"] = {"monai": lambda z, y: unified(z.sigmoid(), y.unsqueeze(1))}
        counterparts["boundary"] = {
            "monai": mix_losses(call_monai(monai.DiceLoss(**options)), call_monai(monai.BoundaryLoss(**shape)))
        }
    if kornia is not None:
        if binary:
            focal = kornia.BinaryFocalLossWithLogits(alpha=0.25, gamma=2.0, reduction="mean", ignore_index=IGNORE)
            counterparts["focal"]["kornia"] = lambda z, y: focal(z, y.unsqueeze(1))
            counterparts["lovasz"]["kornia"] = kornia.LovaszHingeLoss()
        else:
            counterparts["focal"]["kornia"] = kornia.FocalLoss(
                alpha=None, gamma=2.0, reduction="mean", ignore_index=IGNORE
            )
            counterparts["dice"]["kornia"] = kornia.DiceLoss(average="macro", ignore_index=IGNORE)
            counterparts["tversky"]["kornia"] = kornia.TverskyLoss(alpha=0.3, beta=0.7, ignore_index=IGNORE)
            counterparts["lovasz"]["kornia"] = kornia.LovaszSoftmaxLoss()
    counterparts["dice_ce"] = {
        name: mix_losses(loss, compute_cross_entropy) for name, loss in counterparts["dice"].items()
    }
    counterparts["dice_focal"] = {
        name: mix_losses(loss, counterparts["focal"][name])
        for name, loss in counterparts["dice"].items()
        if name in counterparts["focal"]
    }

    counterparts["topk_ce"] = {"nnU-Net": compute_top_k}
    counterparts["logit_adjusted"] = {"torch": compute_logit_adjusted}
    counterparts["ohem_ce"] = {"BiSeNet": compute_ohem}
    counterparts["dice_topk"] = {
        f"{name} + nnU-Net": mix_losses(loss, compute_top_k) for name, loss in counterparts["dice"].items()
    }
    return counterparts


def build_family_loss(family: str, task: Task, classes: int, batch: Batch) -> Loss:
    """Return sweeper's loss with its defaults; a parameter without a default gets 8."""
    coordinates = FAMILIES[family].coordinates[task]
    required = [name for name in ("pos_weight", "prior_odds") if name in coordinates]
    params: dict[str, Any] = {name: 8.0 for name in required if coordinates[name].default is None}
    frequencies = tuple(1.0 for _ in range(classes)) if task == "multiclass" else None
    loss = build_loss(family, task=task, class_frequencies=frequencies, **params)
    if FAMILIES[family].needs_map is not None:  # as in training, the maps come with the batch
        distance = torch.ones_like(batch.logits, dtype=torch.float16)
        return lambda z, y: loss(z, y, distance=distance)
    return loss


def take_step(loss: Loss, batch: Batch, device: str) -> None:
    """Run forward + backward once."""
    leaf = batch.logits.detach().requires_grad_()
    with torch.autocast(device, dtype=torch.bfloat16, enabled=leaf.dtype == torch.bfloat16):
        value = loss(leaf, batch.target)
    torch.autograd.grad(value, leaf)


def time_step(loss: Loss, batch: Batch, device: str) -> float:
    """Return the milliseconds of one forward + backward."""
    if device == "cuda":
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        take_step(loss, batch, device)
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end))
    # The time of one thread does not include other programs.
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    began = clock()
    take_step(loss, batch, device)
    return 1000 * (clock() - began)


@contextlib.contextmanager
def mute_stderr() -> Iterator[None]:
    """Discard what is written to standard error: the profiler's C++ code prints a line there each time."""
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)


def measure_peak(loss: Loss, batch: Batch, device: str) -> float:
    """Return the peak of tensors allocated in forward + backward, in MiB."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        take_step(loss, batch, device)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    activity = [torch.profiler.ProfilerActivity.CPU]
    with mute_stderr(), torch.profiler.profile(activities=activity, profile_memory=True) as profile:
        take_step(loss, batch, device)
    allocated = peak = 0
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        allocated += event.nbytes()
        peak = max(peak, allocated)
    return peak / 2**20


def is_runnable(loss: Loss, batch: Batch, device: str) -> bool:
    """Return whether a counterpart runs on this batch; print why it does not."""
    try:
        take_step(loss, batch, device)
    except (RuntimeError, TypeError, ValueError) as error:
        print(f"<!-- a counterpart does not run: {type(error).__name__}: {str(error).splitlines()[0][:100]} -->")
        return False
    return True


def print_row(
    family: str, task: Task, batch: Batch, counterparts: dict[str, Loss], *, device: str, repetitions: int
) -> float | None:
    """Measure a family and print its row; return the ratio to the fastest counterpart, if there is one."""
    loss = build_family_loss(family, task, batch.logits.shape[1], batch)
    take_step(loss, batch, device)
    losses = {name: other for name, other in counterparts.items() if is_runnable(other, batch, device)}
    losses = {"sweeper": loss} | losses
    times: dict[str, list[float]] = {name: [] for name in losses}
    for _ in range(repetitions):
        for name, each in losses.items():
            times[name].append(time_step(each, batch, device))
    medians = {name: statistics.median(values) for name, values in times.items()}
    memory = measure_peak(loss, batch, device)
    cells = [family, task, str(batch.logits.dtype).removeprefix("torch."), f"{medians['sweeper']:.2f}"]
    if len(losses) == 1:
        print("| " + " | ".join([*cells, "none", "", "", f"{memory:.0f}", ""]) + " |", flush=True)
        return None
    best = min((name for name in losses if name != "sweeper"), key=medians.__getitem__)
    ratios = [theirs / ours for theirs, ours in zip(times[best], times["sweeper"], strict=True)]
    low, ratio, high = statistics.quantiles(ratios, n=4)
    cells += [best, f"{medians[best]:.2f}", f"{ratio:.2f} ({low:.2f}–{high:.2f})"]
    cells += [f"{memory:.0f}", f"{measure_peak(losses[best], batch, device):.0f}"]
    print("| " + " | ".join(cells) + " |", flush=True)
    return ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--crops", action="store_true", help="batches as small as in training on a CPU")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--family", action="append", choices=list(FAMILIES), help="only this one; may be repeated")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.repetitions < 2:
        parser.error(f"--repetitions must be at least 2 for quartiles, got {arguments.repetitions}")
    torch.set_num_threads(arguments.threads)
    warnings.filterwarnings("ignore")
    processor = torch.cuda.get_device_name() if arguments.device == "cuda" else torch.backends.cpu.get_cpu_capability()
    threads = format_count(arguments.threads, "thread")
    print(f"{arguments.device}: {processor}, {threads}, torch {torch.__version__}; forward + backward,")
    print(f"medians of {arguments.repetitions} alternating repetitions; ratio: counterpart / ours (quartiles).\n")
    print("| family | task | logits | ours ms | fastest other | its ms | ratio | ours MiB | its MiB |")
    print("|---|---|---|---|---|---|---|---|---|")
    ratios = []
    for task, shape in (CROPS if arguments.crops else SHAPES).items():
        counterparts = make_counterparts(task)
        for dtype in (torch.float32, torch.bfloat16):
            batch = make_batch(task, shape, dtype, arguments.device)
            families = [name for name, family in FAMILIES.items() if task in family.tasks]
            for name in families:
                if arguments.family is None or name in arguments.family:
                    options = {"device": arguments.device, "repetitions": arguments.repetitions}
                    ratios.append(print_row(name, task, batch, counterparts.get(name, {}), **options))
    compared = [ratio for ratio in ratios if ratio is not None]
    if compared:
        slower = sum(ratio < 1 for ratio in compared)
        print(f"\nMedian ratio {statistics.median(compared):.2f} over {len(compared)} rows; {slower} rows below 1.")


if __name__ == "__main__":
    main()
