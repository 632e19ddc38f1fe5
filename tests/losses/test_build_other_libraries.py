"""Losses equal those of other libraries that are right. Those that are wrong: test_build_library_traps.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torchvision.ops import sigmoid_focal_loss

from sweeper.losses import build_loss

smp = pytest.importorskip("segmentation_models_pytorch.losses")
monai = pytest.importorskip("monai.losses", reason="needs the extra `oracles`")

IGNORE = 255
FREQUENCIES = (700, 250, 50)


def draw_batch(task: str, *, ignored: bool = False) -> tuple[Tensor, Tensor]:
    """Return float64 logits and labels in which every class occurs."""
    rng = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(2, 1 if task == "binary" else 3, 12, 12, generator=rng, dtype=torch.float64)
    target = torch.randint(0, 2 if task == "binary" else 3, (2, 12, 12), generator=rng)
    if ignored:
        target[..., 3:6, 5:] = IGNORE
    return logits, target


def assert_close(ours: Tensor, theirs: Tensor, rtol: float = 1e-6) -> None:
    torch.testing.assert_close(ours, theirs.to(ours.dtype), rtol=rtol, atol=1e-9)


def call_entropy(task: str, logits: Tensor, target: Tensor, point: dict[str, float]) -> Tensor:
    """Call that of torch, whose mean over several classes would divide by the sum of the weights."""
    if task == "binary":
        weight = torch.tensor(point.get("pos_weight", 1.0))
        return F.binary_cross_entropy_with_logits(logits[:, 0], target.to(logits.dtype), pos_weight=weight)
    shares = torch.tensor(FREQUENCIES, dtype=logits.dtype) / sum(FREQUENCIES)
    weights = shares ** -point.get("class_weight_power", 0.0)
    return F.cross_entropy(logits, target, weights / (shares * weights).sum(), reduction="sum") / target.numel()


def call_focal(task: str, logits: Tensor, target: Tensor, point: dict[str, float]) -> Tensor:
    """Call that of smp, for several classes MONAI's, which divides by their number, and whose α is of the others."""
    if task == "binary":
        return smp.FocalLoss("binary", alpha=point.get("alpha"), gamma=point["gamma"])(logits, target)
    alpha = point.get("alpha")
    focal = monai.FocalLoss(gamma=point["gamma"], alpha=alpha, use_softmax=True, to_onehot_y=True)
    return logits.shape[1] * focal(logits, target.unsqueeze(1))


def call_tversky(task: str, logits: Tensor, target: Tensor, point: dict[str, float]) -> Tensor:
    """Call that of smp, whose exponent for one class is that of the paper."""
    fn, exponent = point["fn_weight"], point.get("overlap_exponent", 1.0)
    return smp.TverskyLoss(task, smooth=1.0, alpha=1 - fn, beta=fn, gamma=exponent)(logits, target)


def call_dice(task: str, logits: Tensor, target: Tensor, point: dict[str, float]) -> Tensor:
    return smp.DiceLoss(task, smooth=1.0)(logits, target)


def call_jaccard(task: str, logits: Tensor, target: Tensor, point: dict[str, float]) -> Tensor:
    return smp.JaccardLoss(task, smooth=1.0)(logits, target)


def mix_with_dice(first: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def call(task: str, logits: Tensor, target: Tensor, point: dict[str, float]) -> Tensor:
        pixels, overlap = (part(task, logits, target, point) for part in (first, call_dice))
        return point["mix"] * pixels + (1 - point["mix"]) * overlap

    return call


EQUALS: list[tuple[str, str, Callable[..., Tensor], dict[str, Any]]] = [
    *(("cross_entropy", task, call_entropy, {}) for task in ("binary", "multiclass")),
    ("weighted_ce", "binary", call_entropy, {"pos_weight": 20.0}),
    *(("weighted_ce", "multiclass", call_entropy, {"class_weight_power": power}) for power in (0.5, 1.1)),
    *(("focal", "binary", call_focal, {"gamma": g, "alpha": a}) for g, a in ((2.0, 0.25), (3.5, 0.9))),
    *(("focal", "multiclass", call_focal, {"gamma": g, "alpha": a}) for g, a in ((2.0, None), (3.5, 0.8))),
    *(("dice", task, call_dice, {}) for task in ("binary", "multiclass")),
    *(("jaccard", task, call_jaccard, {}) for task in ("binary", "multiclass")),
    *(("tversky", task, call_tversky, {"fn_weight": 0.7}) for task in ("binary", "multiclass")),
    ("focal_tversky", "binary", call_tversky, {"fn_weight": 0.6, "overlap_exponent": 0.75}),
    ("dice_ce", "binary", mix_with_dice(call_entropy), {"mix": 0.3, "pos_weight": 4.0}),
    ("dice_ce", "multiclass", mix_with_dice(call_entropy), {"mix": 0.3, "class_weight_power": 0.4}),
    *(("dice_focal", task, mix_with_dice(call_focal), {"mix": 0.4, "gamma": 2.2}) for task in ("binary", "multiclass")),
]
"""Family, task, the libraries' loss, and a point of both."""


@pytest.mark.parametrize(
    ("family", "task", "theirs", "point"), EQUALS, ids=[f"{family}-{task}-{point}" for family, task, _, point in EQUALS]
)
def test_losses_equal_those_of_other_libraries_in_value_and_gradient(family, task, theirs, point):
    logits, target = draw_batch(task)
    ours = build_loss(family, task=task, class_frequencies=FREQUENCIES, **point)
    leaves = [logits.float().requires_grad_() for _ in range(2)]
    values = ours(leaves[0], target), theirs(task, leaves[1], target, point)
    torch.testing.assert_close(values[1], values[0], rtol=1e-5, atol=1e-6)
    slopes = [torch.autograd.grad(value, leaf)[0] for value, leaf in zip(values, leaves, strict=True)]
    torch.testing.assert_close(slopes[1], slopes[0], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 5.0])
@pytest.mark.parametrize("alpha", [0.25, 0.9, None])
def test_binary_focal_equals_that_of_torchvision(gamma, alpha):
    logits, target = draw_batch("binary", ignored=True)
    labelled = target != IGNORE
    options = {"alpha": -1 if alpha is None else alpha, "gamma": gamma, "reduction": "mean"}
    theirs = sigmoid_focal_loss(logits[:, 0][labelled], target[labelled].double(), **options)
    assert_close(build_loss("focal", task="binary", gamma=gamma, alpha=alpha)(logits, target), theirs)


@pytest.mark.parametrize(
    ("family", "task", "theirs"),
    [
        ("dice", "binary", smp.DiceLoss("binary", smooth=1.0, ignore_index=IGNORE)),
        ("lovasz", "binary", smp.LovaszLoss("binary", ignore_index=IGNORE)),
        ("lovasz", "multiclass", smp.LovaszLoss("multiclass", ignore_index=IGNORE)),
    ],
)
def test_losses_of_smp_ignore_the_same_pixels(family, task, theirs):
    logits, target = draw_batch(task, ignored=True)
    assert_close(build_loss(family, task=task)(logits, target), theirs(logits.float(), target), rtol=1e-5)


@pytest.mark.parametrize(("kind", "exponent"), [("simple", 1.0), ("square", 2.0)])
def test_generalised_dice_equals_that_of_monai(kind, exponent):
    logits, target = draw_batch("multiclass")
    options = {"softmax": True, "to_onehot_y": True, "batch": True, "smooth_nr": 0.0, "smooth_dr": 1e-12}
    theirs = monai.GeneralizedDiceLoss(w_type=kind, **options)(logits, target.unsqueeze(1))
    assert_close(build_loss("generalized_dice", task="multiclass", volume_exponent=exponent)(logits, target), theirs)


def test_soft_cldice_equals_that_of_monai():
    logits, target = (x[:1] for x in draw_batch("binary"))  # theirs is per image
    options = {"iter_": 3, "sigmoid": True, "smooth": 1e-12, "smooth_nr": 1.0, "smooth_dr": 1.0}
    theirs = monai.SoftclDiceLoss(**options)(logits, target.unsqueeze(1).double())
    assert_close(build_loss("soft_cldice", task="binary", skeleton_weight=1.0)(logits, target), theirs)
