"""Faults of the losses of common libraries, in the installed versions, and that ours do not have them.

Each test makes two claims: the library behaves as docs/losses.md says, and our loss of the same name behaves as it
should. A test of the first kind that fails after an upgrade is good news: the library was fixed, and the line in
docs/losses.md has to go.
"""

from __future__ import annotations

import pytest
import segmentation_models_pytorch as smp
import torch
from torch.nn import functional as F  # noqa: N812

from sweeper.losses import build_loss

IGNORE = 255
SMP_UNFIXED = pytest.mark.skipif(not smp.__version__.startswith("0.6."), reason="of version 0.6.0")


def draw_logits(channels: int, size: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(seed))


def draw_labels(classes: int, size: int = 8, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, classes, (2, size, size), generator=torch.Generator().manual_seed(seed))


def compute_gradient(loss, logits, target):
    leaf = logits.detach().clone().requires_grad_()
    value = loss(leaf, target)
    (slope,) = torch.autograd.grad(value, leaf)
    return value.detach(), slope


# --- segmentation-models-pytorch ------------------------------------------------------------------------------------


@SMP_UNFIXED
class TestSegmentationModelsPytorch:
    def test_soft_cross_entropy_fails_with_its_own_defaults(self):
        logits, target = draw_logits(3), draw_labels(3)
        with pytest.raises(TypeError):
            smp.losses.SoftCrossEntropyLoss()(logits, target)
        ours = build_loss("cross_entropy", task="multiclass")(logits, target)
        torch.testing.assert_close(ours, F.cross_entropy(logits, target))

    def test_soft_cross_entropy_averages_over_ignored_pixels(self):
        logits, target = draw_logits(3), draw_labels(3)
        target[:, :4] = IGNORE
        truth = F.cross_entropy(logits, target, ignore_index=IGNORE)
        theirs = smp.losses.SoftCrossEntropyLoss(smooth_factor=0.0, ignore_index=IGNORE)(logits, target)
        torch.testing.assert_close(theirs, truth / 2)  # half the pixels are ignored
        torch.testing.assert_close(build_loss("cross_entropy", task="multiclass")(logits, target), truth)

    def test_multiclass_focal_is_a_sigmoid_for_each_class(self):
        """A softmax network does not change its answer when a number is added to all its logits; this loss does."""
        logits, target = draw_logits(3), draw_labels(3)
        theirs = smp.losses.FocalLoss("multiclass", gamma=0.0)
        one_hot = F.one_hot(target, 3).movedim(-1, 1).float()
        torch.testing.assert_close(theirs(logits, target), F.binary_cross_entropy_with_logits(logits, one_hot))
        assert (theirs(logits + 5, target) - theirs(logits, target)).abs() > 1
        ours = build_loss("focal", task="multiclass", gamma=0.0)
        torch.testing.assert_close(ours(logits, target), F.cross_entropy(logits, target))
        torch.testing.assert_close(ours(logits + 5, target), ours(logits, target))

    def test_multiclass_focal_has_one_alpha_for_each_class_against_the_rest(self):
        """α weighs a class's pixels against all others, for every class: the common class gains as the rare one."""
        logits = torch.zeros(1, 3, 1, 1)
        costs = []
        for label in range(3):
            target = torch.full((1, 1, 1), label)
            costs.append(smp.losses.FocalLoss("multiclass", alpha=0.9, gamma=0.0)(logits, target).item())
        assert costs[0] == pytest.approx(costs[1]) == pytest.approx(costs[2])
        ours = build_loss("focal", task="multiclass", alpha=0.9, gamma=0.0, class_frequencies=(0.8, 0.15, 0.05))
        common, middle, rare = (ours(logits, torch.full((1, 1, 1), label)).item() for label in range(3))
        assert rare == middle == pytest.approx(9 * common)

    @pytest.mark.parametrize("mode", ["binary", "multiclass"])
    def test_focal_is_nan_on_a_fully_ignored_batch(self, mode):
        logits = draw_logits(1 if mode == "binary" else 3)
        target = torch.full((2, 8, 8), IGNORE)
        theirs = smp.losses.FocalLoss(mode, ignore_index=IGNORE)
        assert theirs(logits, target).isnan()
        value, slope = compute_gradient(build_loss("focal", task=mode, alpha=None), logits, target)
        assert value == 0
        assert (slope == 0).all()

    def test_the_exponent_of_focal_tversky_follows_the_mean_over_classes(self):
        logits, target = draw_logits(3, size=64), draw_labels(3, size=64)
        logits[:, 0] += 2
        scores = []
        p = logits.softmax(1)
        for c in range(3):
            tp, fp, fn = p[:, c][target == c].sum(), p[:, c][target != c].sum(), (1 - p[:, c])[target == c].sum()
            scores.append(1 - tp / (tp + 0.3 * fp + 0.7 * fn))
        missed = torch.stack(scores)
        theirs = smp.losses.TverskyLoss("multiclass", alpha=0.3, beta=0.7, gamma=0.5)(logits, target)
        torch.testing.assert_close(theirs, missed.mean() ** 0.5, rtol=1e-4, atol=0)
        ours = build_loss("focal_tversky", task="multiclass", fn_weight=0.7, overlap_exponent=0.5)(logits, target)
        torch.testing.assert_close(ours, (missed**0.5).mean(), rtol=2e-3, atol=0)  # smoothing is the rest
        assert theirs - ours > 0.003

    def test_focal_tversky_with_an_exponent_below_1_is_nan_without_foreground(self):
        logits, empty = draw_logits(1), torch.zeros(2, 8, 8, dtype=torch.long)
        _, slope = compute_gradient(smp.losses.TverskyLoss("binary", gamma=0.75), logits, empty)
        assert slope.isnan().all()
        value, slope = compute_gradient(
            build_loss("focal_tversky", task="binary", overlap_exponent=0.75), logits, empty
        )
        assert value > 0
        assert (slope > 0).all()

    @pytest.mark.parametrize("library", [smp.losses.DiceLoss, smp.losses.JaccardLoss, smp.losses.TverskyLoss])
    def test_an_absent_class_costs_nothing(self, library):
        sure = torch.full((2, 1, 8, 8), 5.0)  # foreground everywhere, and there is none
        empty = torch.zeros(2, 8, 8, dtype=torch.long)
        value, slope = compute_gradient(library("binary"), sure, empty)
        assert value == 0
        assert (slope == 0).all()
        family = {"DiceLoss": "dice", "JaccardLoss": "jaccard", "TverskyLoss": "tversky"}[library.__name__]
        value, slope = compute_gradient(build_loss(family, task="binary"), sure, empty)
        assert value > 0.99
        assert (slope > 0).all()

    def test_dice_in_float16_is_nan_at_512_pixels(self):
        logits = torch.zeros(1, 1, 512, 512, dtype=torch.float16)
        target = torch.zeros(1, 512, 512, dtype=torch.long)
        target[:, :300] = 1
        value = smp.losses.DiceLoss("binary")(logits, target)
        assert value.isnan()
        value, slope = compute_gradient(build_loss("dice", task="binary"), logits, target)
        torch.testing.assert_close(value, build_loss("dice", task="binary")(logits.float(), target))
        assert slope.isfinite().all()

    def test_lovasz_softmax_leaves_absent_classes_out(self):
        """Whether the wrong probability is on one absent class or is spread over them makes no difference there."""
        target = torch.zeros(1, 8, 8, dtype=torch.long)  # class 0 alone, so the mean is over class 0 alone
        logits = torch.zeros(1, 3, 8, 8)
        logits[:, 2] = 1.0
        spread = logits.flip(1) * 0
        spread[:, 1:] = torch.tensor(float(logits[0, :, 0, 0].exp()[1:].sum() / 2)).log()
        theirs = smp.losses.LovaszLoss("multiclass")
        torch.testing.assert_close(theirs(logits, target), theirs(spread, target))
        ours = build_loss("lovasz", task="multiclass")
        _, slope = compute_gradient(ours, logits, target)
        assert (slope[:, 2] > slope[:, 1]).all()
        assert ours(logits, target) > theirs(logits, target) / 3


# --- MONAI ----------------------------------------------------------------------------------------------------------


class TestMonai:
    @pytest.fixture(autouse=True)
    def monai(self):
        return pytest.importorskip("monai.losses", reason="needs the extra `oracles`")

    def test_unified_focal_documents_logits_and_computes_with_probabilities(self, monai):
        """The documentation asks for logits and the code takes probabilities: outside (0, 1) there is no slope.

        It says: "the input should be the original logits since it will be transformed by a sigmoid in the forward
        function", and clamps them to [1e-7, 1 − 1e-7].
        """
        target = draw_labels(2)
        logits = torch.where(target == 1, -3.0, 3.0).unsqueeze(1)  # everything wrong
        _, slope = compute_gradient(monai.AsymmetricUnifiedFocalLoss(), logits, target.unsqueeze(1))
        assert (slope == 0).all()
        _, slope = compute_gradient(build_loss("unified_focal", task="binary"), logits, target)
        assert (slope[:, 0][target == 1] < 0).all()
        assert (slope[:, 0][target == 0] > 0).all()

    def test_the_pixel_part_of_unified_focal_is_half_of_the_papers(self, monai):
        """The paper's sum over classes, divided by the pixels, is a mean over pixels × classes there.

        The mix λ = 0.5 means 1 : 2 with it. The authors' own code sums over the classes.
        """
        logits, target = draw_logits(1)[:1], draw_labels(2)[:1]
        theirs = monai.AsymmetricUnifiedFocalLoss(weight=1.0, gamma=0.5, delta=0.6)
        p, y = logits.sigmoid()[:, 0], target
        paper = torch.where(y == 1, -0.6 * p.log(), -0.4 * p**0.5 * (1 - p).log()).mean()
        torch.testing.assert_close(theirs(logits.sigmoid(), target.unsqueeze(1)), paper / 2)
        ours = build_loss("unified_focal", task="binary", mix=1.0, suppression=0.5, delta=0.6)
        torch.testing.assert_close(ours(logits, target), paper)

    def test_nan_on_ignored_pixels_makes_the_loss_nan_as_in_smp(self, monai):
        logits, target = draw_logits(1), draw_labels(2)
        target[:, :4] = IGNORE
        logits[:, :, 0, 0] = float("nan")
        for theirs in (monai.DiceLoss, monai.TverskyLoss):
            assert theirs(sigmoid=True, ignore_index=IGNORE)(logits, target.unsqueeze(1)).isnan()
        assert smp.losses.DiceLoss("binary", ignore_index=IGNORE)(logits, target).isnan()
        for family in ("dice", "tversky"):
            assert build_loss(family, task="binary")(logits, target).isfinite()

    def test_the_boundary_loss_of_an_image_without_foreground_is_zero(self, monai):
        """MONAI's loss lets false alarms go free wherever there is nothing to find.

        Kervadec's authors train on slices with foreground, or with a regional loss.
        """
        sure, empty = torch.full((1, 1, 8, 8), 4.0), torch.zeros(1, 8, 8, dtype=torch.long)
        value, slope = compute_gradient(monai.BoundaryLoss(sigmoid=True), sure, empty.unsqueeze(1))
        assert value == 0
        assert (slope == 0).all()
        value, slope = compute_gradient(build_loss("boundary", task="binary"), sure, empty)
        assert value > 0.5
        assert (slope > 0).all()

    def test_softmax_focal_also_divides_by_the_number_of_classes(self, monai):
        """−(1 − p_t)^γ log p_t is a number for each pixel; MONAI averages over pixels × classes, C times too small."""
        logits, target = draw_logits(3), draw_labels(3)
        theirs = monai.FocalLoss(use_softmax=True, to_onehot_y=True, gamma=0.0)(logits, target.unsqueeze(1))
        torch.testing.assert_close(3 * theirs, F.cross_entropy(logits, target))
        ours = build_loss("focal", task="multiclass", gamma=0.0)(logits, target)
        torch.testing.assert_close(ours, F.cross_entropy(logits, target))
