"""Losses of overlapping classes: those of one class each, other libraries', and the same in every form."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from sweeper.core.errors import LossError
from sweeper.losses import FAMILIES, build_loss, choose_threshold, choose_thresholds, make_snippet
from sweeper.losses.gradient_distance import ComparedLoss, measure_gradient_distances
from sweeper.losses.own_loss_module import check_own_loss
from sweeper.scripts.loss_file import make_loss_text
from sweeper.workflow.own_losses import declare_loss
from tests.support.own_modules import own_module
from tests.support.pasting import run_text

SHARES = (0.3, 0.1, 0.05)
NAMES = [*FAMILIES]
OF_PIXELS = ("cross_entropy", "weighted_ce", "focal", "topk_ce", "boundary_ce", "logit_adjusted", "ohem_ce")
"""Means over pixels, for which each class is like another image."""
OWN = """
from torch.nn import functional as F

def bce(task, classes):
    assert task == "multilabel" and classes == 3

    def loss(z, y):
        each = F.binary_cross_entropy_with_logits(z, y.clamp(max=1).float(), reduction="none")
        return (each * (y != 255)).sum() / (y != 255).sum().clamp(min=1)

    return loss
"""
WEIGHTED = {"class_weight_power": 0.5, "alpha_power": 1.0, "tau": 1.0}


def draw_batch(seed: int = 0, *, ignored: bool = True) -> tuple[Tensor, Tensor]:
    """Return float64 logits and labels (2, 3, 12, 12), a part of them without a label in every class."""
    rng = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, 3, 12, 12, generator=rng, dtype=torch.float64)
    target = (torch.rand(2, 3, 12, 12, generator=rng) < 0.3).long()
    if ignored:
        target[..., 3:6, 5:] = 255
    return logits, target


def pick_point(name: str) -> dict[str, float]:
    return {key: value for key, value in WEIGHTED.items() if key in FAMILIES[name].coordinates["multilabel"]}


def make_binary(name: str, share: float) -> torch.nn.Module:
    """Return the loss of one class with the same weights."""
    odds, params = (1 - share) / share, dict[str, float]()
    if name in ("weighted_ce", "dice_ce"):
        params = {"pos_weight": odds**0.5}
    if name == "logit_adjusted":
        params = {"prior_odds": odds}
    if name == "focal":
        params = {"alpha": odds / (1 + odds)}
    return build_loss(name, task="binary", **params)


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_is_the_mean_of_those_of_each_class(name):
    logits, target = draw_batch()
    for c, share in enumerate(SHARES):  # a single class is the binary task, to the last digit
        alone = build_loss(name, task="multilabel", class_frequencies=(share,), **pick_point(name))
        of_class = logits[:, c : c + 1].float()
        assert alone(of_class, target[:, c : c + 1]).item() == make_binary(name, share)(of_class, target[:, c]).item()
    ours = build_loss(name, task="multilabel", class_frequencies=(0.1,) * 3, **pick_point(name))(logits, target)
    binary = make_binary(name, 0.1)
    mean = torch.stack([binary(logits[:, c : c + 1], target[:, c]) for c in range(3)]).mean()
    joint = binary(logits.flatten(0, 1).unsqueeze(1), target.flatten(0, 1))
    if name == "dice_topk":  # the hardest share is that of all classes together
        parts = build_loss("topk_ce", task="multilabel"), build_loss("dice", task="multilabel")
        mean = sum(part(logits, target) for part in parts) / 2
    torch.testing.assert_close(ours, joint if name in OF_PIXELS else mean)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_permutations_precision_and_ignored_pixels(name):
    logits, target = draw_batch()
    point: dict[str, Any] = {"class_frequencies": SHARES, **pick_point(name)}
    loss = build_loss(name, task="multilabel", **point)
    few, own = logits[:1, :, :5, :5].clone().requires_grad_(), target[:1, :, :5, :5]
    assert torch.autograd.gradcheck(lambda z: loss(z, own), few)
    order = [2, 0, 1]
    moved = build_loss(name, task="multilabel", **point | {"class_frequencies": [SHARES[c] for c in order]})
    torch.testing.assert_close(moved(logits[:, order], target[:, order]), loss(logits, target))
    leaf = logits.clone().requires_grad_()
    value = loss(leaf, target)
    assert not torch.autograd.grad(value, leaf)[0][target == 255].any()
    spoiled = torch.where(target == 255, torch.nan, logits)
    torch.testing.assert_close(loss(spoiled, target), value.detach())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = loss(logits.bfloat16(), target)
    torch.testing.assert_close(half, loss(logits.bfloat16().float(), target))
    if not FAMILIES[name].images_only:
        slices = [each.unflatten(2, (2, 6)) for each in (logits, target)]
        torch.testing.assert_close(loss(*slices), loss(logits, target))


def test_losses_equal_those_of_other_libraries():
    smp = pytest.importorskip("segmentation_models_pytorch.losses")
    monai = pytest.importorskip("monai.losses", reason="needs the extra `oracles`")
    logits, target = draw_batch(ignored=False)
    z, y = logits.float(), target.float()
    odds = torch.tensor([(1 - share) / share for share in SHARES]).view(-1, 1, 1)
    both = {"sigmoid": True, "batch": True, "smooth_nr": 1.0, "smooth_dr": 1.0}
    focal = smp.FocalLoss("multilabel", gamma=2.0)
    for name, point, theirs in (
        ("cross_entropy", {}, F.binary_cross_entropy_with_logits(z, y)),
        ("weighted_ce", {"class_weight_power": 1.0}, F.binary_cross_entropy_with_logits(z, y, pos_weight=odds)),
        ("focal", {}, focal(z, y)),
        ("dice", {}, smp.DiceLoss("multilabel", smooth=1.0)(z, y)),
        ("jaccard", {}, smp.JaccardLoss("multilabel", smooth=1.0)(z, y)),
        ("jaccard", {}, monai.DiceLoss(jaccard=True, **both | {"smooth_nr": 2.0, "smooth_dr": 2.0})(z, y)),
        ("tversky", {"fn_weight": 0.7}, smp.TverskyLoss("multilabel", smooth=1.0, alpha=0.3, beta=0.7)(z, y)),
        ("tversky", {"fn_weight": 0.7}, monai.TverskyLoss(alpha=0.3, beta=0.7, **both)(z, y)),
        ("dice_ce", {}, (smp.DiceLoss("multilabel", smooth=1.0)(z, y) + F.binary_cross_entropy_with_logits(z, y)) / 2),
    ):
        ours = build_loss(name, task="multilabel", class_frequencies=SHARES, **point)(z, target)
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6, msg=name)
    ours = build_loss("focal", task="multilabel", class_frequencies=(0.75,) * 3, alpha_power=1.0)(z, target)
    torch.testing.assert_close(ours, smp.FocalLoss("multilabel", gamma=2.0, alpha=0.25)(z, y), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_code_to_paste_and_files_compute_the_same(name):
    logits, target = draw_batch()
    counts = (0.3, 0.1, 0.05)
    expected = build_loss(name, task="multilabel", class_frequencies=counts, **pick_point(name))(logits, target)
    text = make_snippet(name, pick_point(name), "multilabel", ["a", "b", "c"], counts, point=(0.5, 0.25, 0.995))
    pasted = run_text(text)
    torch.testing.assert_close(pasted["criterion"](logits, target), expected, rtol=1e-3, atol=1e-4)
    answers = pasted["predict"](torch.logit(torch.tensor([0.4, 0.4, 0.997])).view(1, 3, 1, 1))
    assert answers.flatten().tolist() == [0, 1, 1]
    if FAMILIES[name].needs_map is None:
        file = run_text(make_loss_text(name, pick_point(name), "multilabel", counts))
        assert file["criterion"](logits.float(), target) == build_loss(
            name, task="multilabel", class_frequencies=counts, **pick_point(name)
        )(logits.float(), target)
        with pytest.raises(ValueError, match=r"both be \(N, C, H, W\)"):
            file["criterion"](logits, target[:, 0])


def test_thresholds_are_chosen_for_each_class():
    batches = [draw_batch(seed) for seed in range(3)]
    for metric, own in (("miou", "fg_iou"), ("dice", "fg_dice")):
        thresholds = choose_thresholds(batches, metric)
        assert len(set(thresholds)) == 3
        for c, threshold in enumerate(thresholds):
            assert threshold == choose_threshold([(z[:, c : c + 1], y[:, c]) for z, y in batches], own)
    with pytest.raises(ValueError, match="must both be"):
        choose_thresholds([(batches[0][0], batches[0][1][:, 0])])


def test_wrong_targets_and_shares_are_refused():
    logits, target = draw_batch()
    loss = build_loss("dice", task="multilabel")
    with pytest.raises(LossError, match=r"target the shape \(N, C, H, W\) with 0 and 1"):
        loss(logits, target[:, 0])
    with pytest.raises(LossError, match="class labels 0 to 1, or 255"):
        loss(logits, target.clamp(max=1) * 2)
    with pytest.raises(LossError, match="must be at most 1"):
        build_loss("weighted_ce", task="multilabel", class_frequencies=(300, 10))
    with pytest.raises(LossError, match=r"one channel per class .*\(2\), got 3"):
        build_loss("weighted_ce", task="multilabel", class_frequencies=(0.3, 0.1))(logits, target)
    weights = build_loss("weighted_ce", task="multilabel", class_frequencies=(0.0, 1.0, 0.1), class_weight_power=1.0)
    assert weights(logits, target).isfinite()  # a class without pixels weighs as the rarest other


def test_equal_losses_are_found_and_own_losses_are_checked(tmp_path, monkeypatch):
    labels = torch.randint(0, 8, (2, 32, 32), generator=torch.Generator().manual_seed(0)).numpy().astype("uint8")
    plain, half = ComparedLoss("cross_entropy", {}), ComparedLoss("dice_ce", {"mix": 1.0, "class_weight_power": 0.0})
    other = ComparedLoss("weighted_ce", {"class_weight_power": 1.0})
    near, far = measure_gradient_distances([(half, plain), (other, plain)], labels, "multilabel", SHARES)
    assert near < 1e-6 and far > 0.1
    with own_module("own_planes_here", OWN, tmp_path, monkeypatch) as name:
        check_own_loss(declare_loss(f"{name}:bce"), "multilabel", 3)
