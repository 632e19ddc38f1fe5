"""Options of the kernel, and what is refused of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812

from sweeper.core.errors import LossError
from sweeper.losses import build_loss
from sweeper.losses.class_weights import effective_number_weights
from sweeper.losses.per_pixel import near_boundary
from tests.support.loss_cases import CASES, CLASSES, FREQUENCIES, IGNORE, make, noise, value_and_gradient

TASKS = ("binary", "multiclass")
COUNTS = (9000, 900, 100)


def doubles(task: str, ignored: bool = True):
    logits, target = noise(task, size=9)
    if ignored:
        target[..., 2:4, 3:] = IGNORE
    return logits.double(), target


# --- Cross-entropy part -------------------------------------------------------------------------------------


def test_label_smoothing_is_torchs():
    logits, target = doubles("multiclass")
    ours = build_loss("cross_entropy", task="multiclass", label_smoothing=0.2)(logits, target)
    torch.testing.assert_close(ours, F.cross_entropy(logits, target, ignore_index=IGNORE, label_smoothing=0.2))


def test_label_smoothing_with_class_weights_is_torchs_but_for_the_divisor():
    logits, target = doubles("multiclass")
    weights = (0.5, 2.0, 7.0)
    ours = build_loss("cross_entropy", task="multiclass", label_smoothing=0.1, class_weights=weights)(logits, target)
    kind = {"ignore_index": IGNORE, "label_smoothing": 0.1, "reduction": "sum"}
    theirs = F.cross_entropy(logits, target, torch.tensor(weights).double(), **kind)
    torch.testing.assert_close(ours, theirs / (target != IGNORE).sum())


@pytest.mark.parametrize("gamma", [0.0, 1.5])
def test_smoothed_sigmoid_is_the_smoothed_softmax_of_two_classes(gamma):
    z, target = doubles("binary")
    given = {"gamma": gamma, "label_smoothing": 0.3}
    binary = build_loss("focal", task="binary", alpha=(0.3, 0.9), **given)(z, target)
    two = torch.cat([torch.zeros_like(z), z], dim=1)
    torch.testing.assert_close(build_loss("focal", task="multiclass", alpha=(0.3, 0.9), **given)(two, target), binary)


def test_smoothed_binary_cross_entropy_is_torchs():
    z, target = doubles("binary", ignored=False)
    ours = build_loss("weighted_ce", task="binary", pos_weight=4.0, label_smoothing=0.2)(z, target)
    soft = target.double() * 0.8 + 0.1
    torch.testing.assert_close(ours, F.binary_cross_entropy_with_logits(z[:, 0], soft, pos_weight=torch.tensor(4.0)))


@pytest.mark.parametrize("task", TASKS)
def test_all_pixels_are_the_hardest_share_of_one(task):
    logits, target = doubles(task)
    plain = build_loss("cross_entropy", task=task)(logits, target)
    torch.testing.assert_close(build_loss("topk_ce", task=task, hard_fraction=1.0)(logits, target), plain)
    assert build_loss("topk_ce", task=task, hard_fraction=0.1)(logits, target) > plain


@pytest.mark.parametrize("share", [1e-9, 0.1, 0.37])
def test_the_hardest_pixels_alone_have_a_gradient(share):
    logits, target = doubles("multiclass")
    _, gradient = value_and_gradient(build_loss("topk_ce", task="multiclass", hard_fraction=share), logits, target)
    labelled = int((target != IGNORE).sum())
    assert (gradient.abs().sum(1) > 0).sum() == max(1, int(share * labelled + 1e-6))


def test_pixels_near_a_boundary_are_found_and_ignored_ones_bound_nothing():
    labels = torch.zeros(1, 1, 9, dtype=torch.long)
    labels[..., 4:] = 7
    known = torch.ones_like(labels, dtype=torch.bool)
    assert near_boundary(labels, known)[0, 0].tolist() == [False, False, True, True, True, True, False, False, False]
    known[..., 3] = False
    assert near_boundary(labels, known)[0, 0].tolist() == [False, False, True, False, True, False, False, False, False]
    assert not near_boundary(torch.full_like(labels, 3), known).any()


def test_effective_number_is_cuis_formula_and_lies_between_none_and_inverse_frequency():
    beta = 0.999
    raw = np.array([(1 - beta) / (1 - beta**n) for n in COUNTS])
    expected = raw / (raw * np.array(COUNTS) / sum(COUNTS)).sum()
    assert effective_number_weights(COUNTS, beta) == pytest.approx(expected)
    assert effective_number_weights(COUNTS, 0.0) == (1, 1, 1)
    inverse = effective_number_weights(COUNTS, 1 - 1e-12)
    assert inverse[2] / inverse[0] == pytest.approx(90, rel=1e-3)
    assert effective_number_weights((5, 0, 1), 0.9)[1] == effective_number_weights((5, 0, 1), 0.9)[2]


@pytest.mark.parametrize(("task", "counts"), [("binary", (900, 100)), ("multiclass", COUNTS)])
def test_effective_number_is_the_class_weights_it_stands_for(task, counts):
    logits, target = doubles(task)
    beta = build_loss("cross_entropy", task=task, effective_number=0.99, class_frequencies=counts)
    weights = build_loss("cross_entropy", task=task, class_weights=effective_number_weights(counts, 0.99))
    torch.testing.assert_close(beta(logits, target), weights(logits, target))


# --- Overlap part -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("squared", [False, True])
def test_per_image_overlap_is_the_mean_over_labelled_images(task, squared):
    logits, target = doubles(task)
    loss = build_loss("dice", task=task, per_image=True, squared=squared)
    batch = build_loss("dice", task=task, squared=squared)
    mean = (batch(logits[:1], target[:1]) + batch(logits[1:], target[1:])) / 2
    torch.testing.assert_close(loss(logits, target), mean)
    target[1] = IGNORE
    torch.testing.assert_close(loss(logits, target), batch(logits[:1], target[:1]))
    value, gradient = value_and_gradient(loss, logits, torch.full_like(target, IGNORE))
    assert value == 0 and (gradient == 0).all()


def test_squared_dice_is_v_nets():
    logits, target = doubles("binary", ignored=False)
    p, y = logits[:, 0].sigmoid(), target.double()
    theirs = 1 - (2 * (p * y).sum() + 2) / (p.square().sum() + y.sum() + 2)
    torch.testing.assert_close(build_loss("dice", task="binary", squared=True)(logits, target), theirs)
    logits, target = doubles("multiclass", ignored=False)
    p, y = logits.softmax(1), F.one_hot(target, CLASSES).movedim(-1, 1).double()
    dims = (0, 2, 3)
    theirs = 1 - (2 * (p * y).sum(dims) + 2) / (p.square().sum(dims) + y.sum(dims) + 2)
    torch.testing.assert_close(build_loss("dice", task="multiclass", squared=True)(logits, target), theirs.mean())


def test_background_counts_where_it_is_asked_for():
    z, target = doubles("binary")
    two = torch.cat([torch.zeros_like(z), z], dim=1)
    binary = build_loss("tversky", task="binary", include_background=True)(z, target)
    torch.testing.assert_close(binary, build_loss("tversky", task="multiclass")(two, target))
    without = build_loss("tversky", task="multiclass", include_background=False)(two, target)
    torch.testing.assert_close(without, build_loss("tversky", task="binary")(z, target))


def test_smoothing_is_added_to_both_sides():
    logits, target = doubles("binary", ignored=False)
    p, y = logits[:, 0].sigmoid(), target.double()
    for smoothing in (0.0, 1e-5, 30.0):
        theirs = 1 - (2 * (p * y).sum() + 2 * smoothing) / ((p + y).sum() + 2 * smoothing)
        torch.testing.assert_close(build_loss("dice", task="binary", smoothing=smoothing)(logits, target), theirs)


def test_class_weights_of_an_overlap_are_those_of_a_mean():
    logits, target = doubles("multiclass")
    each = [build_loss("dice", task="multiclass", class_weights=[float(c == k) for k in range(3)]) for c in range(3)]
    costs = [float(loss(logits, target)) for loss in each]
    for family, more in (("dice", {}), ("dice_focal", {"mix": 0.0, "weigh_overlap": True})):
        for of_classes, weights in (
            ((1.0, 3.0, 6.0), (1, 3, 6)),
            ((1.0, 1.0, 1.0), (1, 1, 1)),
            ((1.0, 0.0, 0.0), (1, 0, 0)),
        ):
            loss = build_loss(family, task="multiclass", class_weights=of_classes, **more)
            assert float(loss(logits, target)) == pytest.approx(np.average(costs, weights=weights))
        off = build_loss(family, task="multiclass", class_weights=(9.0, 1.0, 0.0), include_background=False, **more)
        assert float(off(logits, target)) == pytest.approx(costs[1])
    # Where nothing else has them, the exponent's weights are the overlap's; elsewhere by the flag alone.
    power = build_loss("jaccard", task="multiclass", class_weight_power=1.0, class_frequencies=COUNTS)
    given = build_loss("jaccard", task="multiclass", class_weights=[1 / n for n in COUNTS])
    torch.testing.assert_close(power(logits, target), given(logits, target))
    plain = build_loss("dice_ce", task="multiclass", mix=0.0, class_weight_power=1.0, class_frequencies=COUNTS)
    assert float(plain(logits, target)) == pytest.approx(np.mean(costs))


@pytest.mark.parametrize("per_image", [False, True])
def test_class_weights_of_both_sides_of_a_binary_overlap(per_image):
    logits, target = doubles("binary")
    two = torch.cat([torch.zeros_like(logits), logits], dim=1)
    given = {"class_weights": (1.0, 4.0), "include_background": True, "per_image": per_image}
    binary = build_loss("tversky", task="binary", **given)(logits, target)
    torch.testing.assert_close(binary, build_loss("tversky", task="multiclass", **given)(two, target))


# --- Refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "task", "given", "words"),
    [
        (
            "cross_entropy",
            "multiclass",
            {"class_weights": (1, 2)},
            ["`class_weights` must have one number", "(3)", "2"],
        ),
        ("cross_entropy", "binary", {"class_weights": (1, 2, 3)}, ["one number per class (2)", "got 3"]),
        ("cross_entropy", "multiclass", {"class_weights": (1, -2, 1)}, ["`class_weights` must be at least 0", "-2"]),
        ("cross_entropy", "multiclass", {"class_weights": (1, float("nan"), 1)}, ["`class_weights` must be", "nan"]),
        ("cross_entropy", "multiclass", {"class_weights": (0, 0, 0)}, ["positive number for at least one class"]),
        ("cross_entropy", "multiclass", {"class_weights": ("a", 1, 1)}, ["`class_weights` must hold numbers", "'a'"]),
        ("cross_entropy", "multiclass", {"class_weights": 2.0}, ["must be a sequence", "got 2.0"]),
        ("focal", "multiclass", {"alpha": (0.1, 0.2)}, ["`alpha` must have one number per class (3)", "got 2"]),
        ("focal", "multiclass", {"alpha": (0.1, 0.2, 2.0)}, ["`alpha` must be", "at most 1 in every place"]),
        ("focal", "binary", {"class_weights": (1, 2)}, ["`class_weights` and `alpha`|`alpha` and `class_weights`"]),
        ("cross_entropy", "multiclass", {"effective_number": 1.0}, ["`effective_number` must be", "below 1"]),
        ("cross_entropy", "multiclass", {"effective_number": 0.9}, ["must be counts", "0.6"]),
        ("topk_ce", "binary", {"hard_fraction": 0}, ["`hard_fraction` must be above 0"]),
        ("dice", "binary", {"smoothing": -1}, ["`smoothing` must be at least 0", "-1"]),
        ("dice", "binary", {"per_image": 1}, ["`per_image` must be True or False", "got 1"]),
        ("dice", "binary", {"label_smoothing": 0.1}, ["`label_smoothing` is not a hyper-parameter of dice"]),
        ("cross_entropy", "binary", {"label_smoothing": 1.0}, ["`label_smoothing` must be", "below 1"]),
        ("lovasz", "binary", {"per_image": True}, ["`per_image` is not a hyper-parameter of lovasz"]),
        ("unified_focal", "binary", {"suppression": 1.0}, ["`suppression` must be", "below 1"]),
        ("boundary", "binary", {"distance_mix": float("nan")}, ["`distance_mix` must be", "nan"]),
    ],
)
def test_what_cannot_be_built_is_refused_with_rule_and_value(family, task, given, words):
    frequencies = FREQUENCIES if task == "multiclass" else None
    with pytest.raises(LossError) as caught:
        build_loss(family, task=task, class_frequencies=frequencies, **given)
    for word in words:
        assert any(part in str(caught.value) for part in word.split("|"))


def test_calls_that_do_not_fit_are_refused():
    logits, target = noise("multiclass")
    loss = build_loss("cross_entropy", task="multiclass", class_weights=(1, 2))
    with pytest.raises(LossError, match=r"one channel per class .*\(2\), got 3"):
        loss(logits, target)
    with pytest.raises(LossError, match="distance must have the logits' shape"):
        build_loss("boundary", task="multiclass")(logits, target, distance=torch.ones(2, 8, 8))


# --- Anything at all ----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(
    case=st.sampled_from(CASES),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12)),
    levels=st.tuples(
        st.sampled_from([0.0, 0.01, 0.5, 1.0]),  # share of rare labels
        st.sampled_from([0.0, 0.3, 0.99, 1.0]),  # share of ignored pixels
        st.sampled_from([0.0, 1e-4, 1.0, 40.0, 1e4]),  # size of the logits
    ),
    seed=st.integers(0, 10**6),
)
def test_values_and_gradients_are_finite_whatever_comes(case, shape, levels, seed):
    rare, ignored, scale = levels
    family, task = case
    images, height, width = shape
    rng = torch.Generator().manual_seed(seed)
    channels = 1 if task == "binary" else CLASSES
    logits = (2 * scale * torch.rand(images, channels, height, width, generator=rng) - scale).clamp(-1e4, 1e4)
    where = (images, height, width)
    target = (torch.rand(where, generator=rng) < rare).long() * (CLASSES - 1 if task == "multiclass" else 1)
    target[torch.rand(where, generator=rng) < ignored] = IGNORE
    value, gradient = value_and_gradient(make(family, task), logits, target)
    assert 0 <= value < float("inf")
    assert gradient.isfinite().all()
    outside = (target == IGNORE).unsqueeze(1).expand_as(gradient)
    assert (gradient[outside] == 0).all()


@pytest.mark.parametrize("family", ["cross_entropy", "dice", "topk_ce", "ohem_ce"])
def test_a_batch_without_an_image_is_0(family: str) -> None:
    """The last batch of a loader may be one."""
    loss = build_loss(family, task="multiclass")
    logits = torch.zeros(0, 3, 4, 4, requires_grad=True)
    value = loss(logits, torch.zeros(0, 4, 4, dtype=torch.long))
    value.backward()
    assert float(value.detach()) == 0
