"""docs/losses.md's table of other libraries' arguments: what it says here can be built, and is what it is there."""

from __future__ import annotations

import re

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from sweeper.losses import FAMILIES, build_loss
from sweeper.losses.coming_from_elsewhere import NNUNET, ROWS
from sweeper.losses.families import LIMITS, MEANINGS
from tests.support.loss_cases import CLASSES, noise

smp = pytest.importorskip("segmentation_models_pytorch.losses")
monai = pytest.importorskip("monai.losses")


def batch(task="multiclass"):
    logits, target = noise(task, size=12)
    return logits.double(), target


def test_what_is_named_exists():
    named = {name for _, here in ROWS for name in re.findall(r"`(\w+)(?:=[^`]*)?`", here)}
    known = {*LIMITS, *MEANINGS, "task", "ignore_index", *FAMILIES}
    assert named - known == set()
    assert len({there for there, _ in ROWS}) == len(ROWS)


def soft_dice(logits, target, smooth, exponent=1, dims=(0, 2, 3)):
    """2 I + s over the sum of both + s, as nnU-Net and MMSegmentation write it."""
    p, y = logits.softmax(1), F.one_hot(target, CLASSES).movedim(-1, 1).double()
    return (2 * (p * y).sum(dims) + smooth) / ((p**exponent + y).sum(dims) + smooth)


def test_nnu_nets_default_is_twice_ours_less_one():
    logits, target = batch()
    theirs = F.cross_entropy(logits, target) - soft_dice(logits, target, 1e-5)[1:].mean()
    ours = eval(NNUNET, {"build_loss": build_loss})(logits, target)
    torch.testing.assert_close(2 * ours - 1, theirs)


def test_mmsegs_dice():
    logits, target = batch()
    theirs = (1 - soft_dice(logits, target, 1.0, exponent=2, dims=(2, 3))).mean()
    ours = build_loss("dice", task="multiclass", smoothing=0.5, squared=True, per_image=True)
    torch.testing.assert_close(ours(logits, target), theirs)


@pytest.mark.parametrize("s", [0.5, 2.0])
def test_smoothing_is_smps_and_half_of_monais_for_dice_and_whole_for_tversky(s):
    logits, target = batch()
    given = {"softmax": True, "to_onehot_y": True, "batch": True, "smooth_nr": s, "smooth_dr": s}
    labels = target.unsqueeze(1)

    def ours(family, smoothing, **more):
        return build_loss(family, task="multiclass", smoothing=smoothing, **more)(logits, target)

    close = torch.testing.assert_close
    close(ours("dice", s), smp.DiceLoss("multiclass", smooth=s)(logits, target).double())
    close(ours("dice", s / 2), monai.DiceLoss(**given)(logits, labels).double())
    tversky = ours("tversky", s, fp_weight=0.3, fn_weight=0.8)
    close(tversky, monai.TverskyLoss(alpha=0.3, beta=0.8, **given)(logits, labels).double())
    close(tversky, smp.TverskyLoss("multiclass", alpha=0.3, beta=0.8, smooth=s)(logits, target).double())


def test_mix_is_the_share_of_monais_weights():
    logits, target = batch()
    d, e = 0.5, 1.5
    given = {"softmax": True, "to_onehot_y": True, "batch": True, "smooth_nr": 2.0, "smooth_dr": 2.0}
    theirs = monai.DiceCELoss(lambda_dice=d, lambda_ce=e, **given)(logits, target.unsqueeze(1))
    ours = build_loss("dice_ce", task="multiclass", mix=e / (d + e))(logits, target)
    torch.testing.assert_close((d + e) * ours, theirs.double())


@pytest.mark.parametrize(("alpha", "share"), [(0.8, 0.5), (0.3, 0.2)])
def test_combo_is_dice_ce_up_to_a_factor(alpha, share):
    """Its cross-entropy weighs the foreground by α and the rest by 1 − α."""
    logits, target = batch("binary")
    weighted = build_loss("focal", task="binary", gamma=0.0, alpha=alpha)(logits, target)
    combo = share * weighted + (1 - share) * build_loss("dice", task="binary")(logits, target)
    factor = share * (1 - alpha) + 1 - share
    ours = build_loss("dice_ce", task="binary", mix=share * (1 - alpha) / factor, pos_weight=alpha / (1 - alpha))
    torch.testing.assert_close(factor * ours(logits, target), combo)
