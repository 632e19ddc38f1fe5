"""Where a library's loss is right, ours equals it, beyond what test_equivalents.py tries: with ignored pixels, and
losses that `equivalent` does not write down. Where it is not: test_traps.py."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from sweeper.losses import build_loss
from tests.support.loss_cases import CLASSES, FREQUENCIES, IGNORE, noise

smp = pytest.importorskip("segmentation_models_pytorch.losses")
monai = pytest.importorskip("monai.losses", reason="needs the extra `oracles`")
kornia = pytest.importorskip("kornia.losses", reason="needs the extra `oracles`")


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


@pytest.mark.parametrize("gamma", [0.0, 0.5, 5.0])
@pytest.mark.parametrize("alpha", [0.25, 0.9, None])
def test_binary_focal_is_torchvisions(gamma, alpha):
    logits, target = batch("binary", ignored=True)
    keep = target != IGNORE
    given = {"alpha": -1 if alpha is None else alpha, "gamma": gamma, "reduction": "mean"}
    theirs = sigmoid_focal_loss(logits[:, 0][keep], target[keep].double(), **given)
    close(build_loss("focal", task="binary", gamma=gamma, alpha=alpha)(logits, target), theirs)


@pytest.mark.parametrize(
    ("family", "task", "theirs"),
    [
        ("dice", "binary", lambda: smp.DiceLoss("binary", smooth=1.0, ignore_index=IGNORE)),
        ("lovasz", "binary", lambda: smp.LovaszLoss("binary", ignore_index=IGNORE)),
        ("lovasz", "multiclass", lambda: smp.LovaszLoss("multiclass", ignore_index=IGNORE)),
    ],
)
def test_smp_with_ignored_pixels(family, task, theirs):
    logits, target = batch(task, ignored=True)
    close(build_loss(family, task=task)(logits, target), theirs()(logits.float(), target), rtol=1e-5)


@pytest.mark.parametrize(("kind", "exponent"), [("simple", 1.0), ("square", 2.0)])
def test_generalised_dice_is_monais(kind, exponent):
    logits, target = batch("multiclass")
    given = {"softmax": True, "to_onehot_y": True, "batch": True, "smooth_nr": 0.0, "smooth_dr": 1e-12}
    theirs = monai.GeneralizedDiceLoss(w_type=kind, **given)(logits, target.unsqueeze(1))
    close(build_loss("generalized_dice", task="multiclass", volume_exponent=exponent)(logits, target), theirs)


def test_adjusted_logits_are_those_of_torchs_cross_entropy():
    logits, target = batch("multiclass", ignored=True)
    shift = 0.7 * torch.tensor(FREQUENCIES, dtype=torch.float64).log().view(1, -1, 1, 1)
    theirs = torch.nn.functional.cross_entropy(logits + shift, target, ignore_index=IGNORE)
    close(
        build_loss("logit_adjusted", task="multiclass", class_frequencies=FREQUENCIES, tau=0.7)(logits, target), theirs
    )
    logits, target = batch("binary")
    theirs = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 0] - math.log(30.0), target.double())
    close(build_loss("logit_adjusted", task="binary", prior_odds=30.0)(logits, target), theirs)


def test_centre_lines_are_those_of_monai():
    logits, target = (x[:1] for x in batch("binary"))  # theirs is per image
    kind = {"iter_": 3, "sigmoid": True, "smooth": 1e-12, "smooth_nr": 1.0, "smooth_dr": 1.0}
    theirs = monai.SoftclDiceLoss(**kind)(logits, target.unsqueeze(1).double())
    close(build_loss("soft_cldice", task="binary", skeleton_weight=1.0)(logits, target), theirs)


def test_mix_is_the_share_of_monais_weights():
    logits, target = batch("multiclass")
    d, e = 0.5, 1.5
    given = {"softmax": True, "to_onehot_y": True, "batch": True, "smooth_nr": 2.0, "smooth_dr": 2.0}
    theirs = monai.DiceCELoss(lambda_dice=d, lambda_ce=e, **given)(logits, target.unsqueeze(1))
    close((d + e) * build_loss("dice_ce", task="multiclass", mix=e / (d + e))(logits, target), theirs)


def test_multiclass_focal_is_that_of_kornia():
    logits, target = batch("multiclass")
    theirs = kornia.focal_loss(logits, target, alpha=None, gamma=2.0, reduction="none").sum() / target.numel()
    close(build_loss("focal", task="multiclass", gamma=2.0)(logits, target), theirs)
