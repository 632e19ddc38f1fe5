"""Where a library's loss is right, ours equals it: segmentation-models-pytorch, MONAI, kornia (torch and torchvision:
tests/losses/test_identities.py). Where it is not: tests/losses/test_traps.py."""

from __future__ import annotations

import pytest
import torch

from sweeper.losses import build_loss
from tests.support.loss_cases import CLASSES, IGNORE, noise

smp = pytest.importorskip("segmentation_models_pytorch.losses")
monai = pytest.importorskip("monai.losses")
kornia = pytest.importorskip("kornia.losses")


def batch(task: str, ignored: bool = False):
    """float64 logits and labels in which every class occurs."""
    logits, target = noise(task, size=16)
    if ignored:
        target[..., 3:6, 5:] = IGNORE
    return logits.double(), target


def one_hot(target: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.one_hot(target, CLASSES).movedim(-1, 1).double()


def close(ours: torch.Tensor, theirs: torch.Tensor, rtol: float = 1e-6) -> None:
    torch.testing.assert_close(ours, theirs.to(ours.dtype), rtol=rtol, atol=1e-9)


# --- segmentation-models-pytorch ----------------------------------------------------------------------------

OVERLAPS = [
    ("dice", {}, lambda mode: smp.DiceLoss(mode, smooth=1.0)),
    ("jaccard", {}, lambda mode: smp.JaccardLoss(mode, smooth=1.0)),
    ("tversky", {"fn_weight": 0.7}, lambda mode: smp.TverskyLoss(mode, smooth=1.0, alpha=0.3, beta=0.7)),
]


@pytest.mark.parametrize("task", ["binary", "multiclass"])
@pytest.mark.parametrize(("family", "given", "build"), OVERLAPS, ids=[o[0] for o in OVERLAPS])
def test_overlaps_are_those_of_smp(task, family, given, build):
    logits, target = batch(task)
    theirs = build(task)(logits, target)
    close(build_loss(family, task=task, **given)(logits, target), theirs)


def test_binary_dice_with_ignored_pixels_is_that_of_smp():
    logits, target = batch("binary", ignored=True)
    theirs = smp.DiceLoss("binary", smooth=1.0, ignore_index=IGNORE)(logits, target)
    close(build_loss("dice", task="binary")(logits, target), theirs)


def test_focal_is_that_of_smp():
    logits, target = batch("binary", ignored=True)
    theirs = smp.FocalLoss("binary", alpha=0.8, gamma=1.5, ignore_index=IGNORE)(logits, target)
    close(build_loss("focal", task="binary", alpha=0.8, gamma=1.5)(logits, target), theirs)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_lovasz_is_that_of_smp(task):
    logits, target = batch(task, ignored=True)
    theirs = smp.LovaszLoss(task, ignore_index=IGNORE)(logits.float(), target)
    close(build_loss("lovasz", task=task)(logits, target), theirs, rtol=1e-5)


# --- MONAI --------------------------------------------------------------------------------------------------


def test_generalised_dice_is_that_of_monai():
    logits, target = batch("multiclass")
    theirs = monai.GeneralizedDiceLoss(softmax=True, w_type="square", batch=True, smooth_nr=0.0, smooth_dr=1e-12)
    ours = build_loss("generalized_dice", task="multiclass")
    close(ours(logits, target), theirs(logits, one_hot(target)))
    simple = monai.GeneralizedDiceLoss(softmax=True, w_type="simple", batch=True, smooth_nr=0.0, smooth_dr=1e-12)
    ours = build_loss("generalized_dice", task="multiclass", volume_exponent=1.0)
    close(ours(logits, target), simple(logits, one_hot(target)))


def test_dice_and_cross_entropy_are_those_of_monai():
    logits, target = batch("multiclass")
    theirs = monai.DiceCELoss(softmax=True, batch=True, smooth_nr=2.0, smooth_dr=2.0, lambda_dice=0.6, lambda_ce=0.4)
    close(build_loss("dice_ce", task="multiclass", mix=0.4)(logits, target), theirs(logits, one_hot(target)))


def test_class_weights_of_the_overlap_are_those_of_smp_and_kornia_and_of_monai_times_their_mean():
    logits, target = batch("multiclass")
    weights = torch.tensor([0.5, 2.0, 7.0])
    ours = build_loss("dice", task="multiclass", class_weights=weights.tolist())(logits, target)
    close(ours, smp.DiceLoss("multiclass", smooth=1.0, class_weights=weights.tolist())(logits, target))
    kind = {"softmax": True, "batch": True, "smooth_nr": 2.0, "smooth_dr": 2.0}
    close(ours * weights.mean(), monai.DiceLoss(**kind, weight=weights)(logits, one_hot(target)))
    theirs = kornia.dice_loss(logits, target, average="macro", eps=1e-12, weight=weights.double())
    per_image = build_loss("dice", task="multiclass", class_weights=weights.tolist(), smoothing=0, per_image=True)
    close(per_image(logits, target), theirs)


def test_per_image_dice_is_that_of_monai():
    logits, target = batch("multiclass")
    theirs = monai.DiceLoss(softmax=True, smooth_nr=2.0, smooth_dr=2.0, include_background=False)
    ours = build_loss("dice", task="multiclass", per_image=True, include_background=False)
    close(ours(logits, target), theirs(logits, one_hot(target)))


def test_squared_dice_is_that_of_monai():
    logits, target = batch("binary")
    theirs = monai.DiceLoss(sigmoid=True, squared_pred=True, batch=True, smooth_nr=2.0, smooth_dr=2.0)
    ours = build_loss("dice", task="binary", squared=True)
    close(ours(logits, target), theirs(logits, target.unsqueeze(1).double()))


def test_multiclass_focal_is_that_of_monai_which_divides_by_the_classes_too():
    logits, target = batch("multiclass")
    ours = build_loss("focal", task="multiclass", gamma=2.5)
    theirs = monai.FocalLoss(gamma=2.5, use_softmax=True)(logits, one_hot(target))
    close(ours(logits, target), CLASSES * theirs)


def test_centre_lines_are_those_of_monai():
    logits, target = (x[:1] for x in batch("binary"))  # theirs is per image
    kind = {"iter_": 3, "sigmoid": True, "smooth": 1e-12, "smooth_nr": 1.0, "smooth_dr": 1.0}
    theirs = monai.SoftclDiceLoss(**kind)(logits, target.unsqueeze(1).double())
    close(build_loss("soft_cldice", task="binary", skeleton_weight=1.0)(logits, target), theirs)


# --- kornia -------------------------------------------------------------------------------------------------


def test_multiclass_focal_is_that_of_kornia():
    logits, target = batch("multiclass")
    theirs = kornia.focal_loss(logits, target, alpha=None, gamma=2.0, reduction="none").sum() / target.numel()
    close(build_loss("focal", task="multiclass", gamma=2.0)(logits, target), theirs)


def test_lovasz_is_that_of_kornia():
    logits, target = batch("binary")
    close(build_loss("lovasz", task="binary")(logits[:1], target[:1]), kornia.lovasz_hinge_loss(logits[:1], target[:1]))
    logits, target = batch("multiclass")
    ours = build_loss("lovasz", task="multiclass")
    close(ours(logits[:1], target[:1]), kornia.lovasz_softmax_loss(logits[:1], target[:1]))
