"""The one-pass losses against the kernel's plain operations, which are the reference."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.losses import boundary, build_loss, lovasz
from sweeper.losses import build as module
from sweeper.losses import class_probabilities as relatives
from sweeper.losses.coordinates import KernelSettings
from sweeper.losses.fused_cpu import Entropy, class_sums, covers, sigmoid, softmax
from sweeper.losses.fused_cpu import sums as sums_module
from sweeper.losses.fused_cpu.sums import hardest
from tests.loss_cases import IGNORE, value_and_gradient

TASKS = ("binary", "multiclass", "multilabel")
CLASSES = 4
OPTIONS = {
    "cross-entropy": ("cross_entropy", {}),
    "focal": ("focal", {"gamma": 2.0}),
    "focal, another exponent": ("focal", {"gamma": 0.7}),
    "hardest": ("topk_ce", {"hard_fraction": 0.2}),
    "boundary": ("boundary_ce", {"boundary_weight": 3.0}),
    "Tversky": ("tversky", {"fn_weight": 0.8, "overlap_exponent": 0.6}),
    "Dice, no smoothing": ("dice", {"smoothing": 0.0}),
    "Dice and cross-entropy": ("dice_ce", {"mix": 0.3}),
    "Dice and focal": ("dice_focal", {"mix": 0.6, "gamma": 1.5}),
    "Dice and hardest": ("dice_topk", {"mix": 0.5, "hard_fraction": 0.3}),
    "Dice, the other way about the background": ("dice", {"include_background": None}),
    "class weights": ("dice_ce", {"class_weights": ...}),
    "class weights in focal": ("focal", {"alpha": ...}),
}


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks so small that a batch has many, and an uneven last one."""
    monkeypatch.setattr(sigmoid, "BLOCK", 25)
    monkeypatch.setattr(softmax, "BLOCK", 60)


@pytest.fixture
def plainly(monkeypatch):
    """Calls a loss as if it had to be done without this package."""

    def call(loss, logits, target, weight=None):
        with monkeypatch.context() as patch:
            patch.setattr(module, "covers", lambda *_: False)
            return value_and_gradient(loss, logits, target, weight=weight)

    return call


def build(name, task):
    family, given_ = OPTIONS[name]
    given_ = {key: value for key, value in given_.items() if key != "include_background" or task != "multilabel"}
    classes = 2 if task == "binary" else CLASSES
    for key, value in given_.items():
        if value is ...:
            given_[key] = tuple(0.5 + 0.4 * c / classes for c in range(classes))
        elif key == "include_background":
            given_[key] = task != "multiclass"
    return build_loss(family, task=task, class_frequencies=None, **given_)


def batch(task, *, ignored=0.2, seed=0, absent=True, dtype=torch.float64, scale=2.0):
    rng = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(3, 1 if task == "binary" else CLASSES, 7, 9, generator=rng, dtype=torch.float64)
    shape = (3, CLASSES, 7, 9) if task == "multilabel" else (3, 7, 9)
    labels = CLASSES - absent if task == "multiclass" else 2
    target = torch.randint(0, labels, shape, generator=rng)
    if task == "multilabel" and absent:
        target[:, 1] = 0
    target[torch.rand(shape, generator=rng) < ignored] = IGNORE
    return logits.to(dtype), target, torch.rand(shape, generator=rng, dtype=torch.float64) * 3


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("blocks", ["one", "many"])
def test_values_and_gradients_are_those_of_plain_operations(name, task, blocks, plainly, request):
    if blocks == "many":
        request.getfixturevalue("small_blocks")
    loss = build(name, task)
    for ignored, absent in ((0.0, False), (0.2, True)):
        logits, target, weight = batch(task, ignored=ignored, absent=absent)
        assert covers(logits, None, loss.settings)
        for w in (None, weight):
            value, gradient = value_and_gradient(loss, logits, target, weight=w)
            expected, slope = plainly(loss, logits, target, w)
            torch.testing.assert_close(value, expected, rtol=1e-11, atol=1e-13)
            torch.testing.assert_close(gradient, slope, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", OPTIONS)
def test_float32_is_right_to_rounding(name, task, plainly, small_blocks):
    loss = build(name, task)
    logits, target, weight = batch(task)
    value, gradient = value_and_gradient(loss, logits.float(), target, weight=weight)
    expected, slope = plainly(loss, logits.float().double(), target, weight)
    assert (value.dtype, gradient.dtype) == (torch.float32, torch.float32)
    torch.testing.assert_close(value.double(), expected, rtol=2e-6, atol=1e-7)
    torch.testing.assert_close(gradient.double(), slope, rtol=1e-5, atol=2e-7 * slope.abs().max().item())


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ["Dice and cross-entropy", "Dice and focal", "hardest", "cross-entropy"])
@pytest.mark.parametrize("blocks", ["one", "many"])
def test_half_precision_and_channels_last_are_taken_as_they_come(name, task, blocks, request):
    """The gradient has the logits' type and is the one of the same numbers in float32, rounded once."""
    if blocks == "many":
        request.getfixturevalue("small_blocks")
    loss = build(name, task)
    logits, target, _ = batch(task, dtype=torch.bfloat16)
    value, gradient = value_and_gradient(loss, logits.float(), target)
    for layout in (torch.contiguous_format, torch.channels_last):
        given_ = logits.to(memory_format=layout)
        other, slope = value_and_gradient(loss, given_, target)
        assert torch.equal(other, value)
        assert slope.dtype == torch.bfloat16
        assert torch.equal(slope, gradient.bfloat16())


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", ["generalized_dice", "unified_focal"])
def test_relatives_are_those_of_plain_operations(family, task, monkeypatch, small_blocks):
    given_ = {"suppression": 0.3, "delta": 0.7} if family == "unified_focal" else {"volume_exponent": 1.5}
    loss = build_loss(family, task=task, **given_)
    for ignored, absent in ((0.0, False), (0.2, True), (1.0, True)):
        logits, target, weight = batch(task, ignored=ignored, absent=absent)
        for w in (None, weight):
            value, gradient = value_and_gradient(loss, logits, target, weight=w)
            with monkeypatch.context() as patch:
                patch.setattr(relatives, "walks", lambda *_: False)
                expected, slope = value_and_gradient(loss, logits, target, weight=w)
            torch.testing.assert_close(value, expected, rtol=1e-11, atol=1e-13)
            torch.testing.assert_close(gradient, slope, rtol=1e-9, atol=1e-14)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    task=st.sampled_from(TASKS),
    name=st.sampled_from(sorted(OPTIONS)),
    ignored=st.sampled_from([0.0, 0.1, 0.9, 1.0]),
    scale=st.floats(0.01, 50),
)
def test_any_batch_is_that_of_plain_operations(seed, task, name, ignored, scale):
    loss = build(name, task)
    logits, target, _ = batch(task, ignored=ignored, seed=seed, scale=scale)
    value, gradient = value_and_gradient(loss, logits, target)
    covered = module.covers
    try:
        module.covers = lambda *_: False
        expected, slope = value_and_gradient(loss, logits, target)
    finally:
        module.covers = covered
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient, slope, rtol=1e-6, atol=1e-11 * max(1.0, slope.abs().max().item()))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", OPTIONS)
def test_the_gradient_can_be_asked_for_twice_and_without_one_nothing_is_kept(name, task):
    """The backward pass writes over what was kept; a second one must not see that."""
    loss = build(name, task)
    logits, target, _ = batch(task, dtype=torch.float32)
    leaf = logits.clone().requires_grad_()
    value = loss(leaf, target)
    first, second = (torch.autograd.grad(value, leaf, retain_graph=True)[0].clone() for _ in range(2))
    assert torch.equal(first, second)
    (tripled,) = torch.autograd.grad(3 * loss(leaf, target), leaf)
    torch.testing.assert_close(tripled, 3 * first)
    with torch.no_grad():
        assert torch.equal(loss(leaf, target), value)
    assert torch.equal(loss(logits, target), value)
    assert loss(logits, target).grad_fn is None


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", OPTIONS)
def test_the_gradient_with_a_graph_is_the_one_without(name, task):
    """Class and pixel weights, absent classes, hardest pixels: plain sums have all that a pass has."""
    loss = build(name, task)
    logits, target, weight = batch(task)
    for w in (None, weight):
        leaf = logits.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(leaf, target, w), leaf, create_graph=True)
        expected = value_and_gradient(loss, logits, target, weight=w)[1]
        assert gradient.requires_grad
        torch.testing.assert_close(gradient.detach(), expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("task", TASKS)
def test_what_is_not_covered_goes_to_plain_operations(task):
    """Weights that want a gradient, torch.func, and three options."""
    logits, target, weight = batch(task)
    loss = build("Dice and cross-entropy", task)
    asking = weight.clone().requires_grad_()
    assert not covers(logits, asking, loss.settings)
    loss(logits, target, asking).backward()
    assert asking.grad is not None and (asking.grad != 0).any()
    slope = torch.func.grad(lambda z: loss(z, target))(logits)
    torch.testing.assert_close(slope, value_and_gradient(loss, logits, target)[1])
    plain = KernelSettings(0.5, 0.0, None, 0.5, 0.5, 1.0)
    assert covers(logits, None, plain)
    for changed in ({"label_smoothing": 0.1}, {"per_image": True}, {"squared": True}):
        assert not covers(logits, None, plain._replace(**changed))


def test_a_label_that_is_no_class_is_an_error_as_in_torch_where_labels_are_no_longer_checked():
    logits, loss = torch.zeros(1, 3, 2, 2), build_loss("dice", task="multiclass")
    loss.checks_labels = False
    for wrong in (3, -1):
        target = torch.tensor([[[0, wrong], [1, 2]]])
        with pytest.raises(IndexError, match=f"Target {wrong} is out of bounds"):
            loss(logits, target)


@pytest.mark.parametrize("task", TASKS)
def test_any_number_of_threads_gives_the_same_to_rounding(task):
    logits, target, _ = batch(task)
    loss, before = build("Dice and cross-entropy", task), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 4):
            torch.set_num_threads(threads)
            found.append(value_and_gradient(loss, logits, target))
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(*found)


# --- Sums ---------------------------------------------------------------------------------------------------


def test_sums_count_pixels():
    logits = torch.tensor([[[[9.0, -9.0, 0.0, 5.0]]]], dtype=torch.float64)
    target = torch.tensor([[[[1, 1, 0, IGNORE]]]])
    found = class_sums(logits, target, IGNORE, softmax=False, entropy=Entropy((0.0, 0.0)))
    p = torch.sigmoid(torch.tensor([9.0, -9.0, 0.0], dtype=torch.float64))
    assert found.false_positives.tolist() == pytest.approx([0.5])
    assert found.false_negatives.item() == pytest.approx((2 - p[0] - p[1]).item())
    assert (found.actual.tolist(), found.rest.tolist(), found.labelled.tolist()) == ([2.0], [1.0], [3.0])
    assert found.entropy.item() == pytest.approx(-(p[0].log() + p[1].log() + (1 - p[2]).log()).item() / 3)


def test_small_errors_keep_their_digits_in_float32():
    """1 − p would be 0 from a logit of 17 on."""
    logits, target = torch.full((1, 1, 8, 8), 20.0), torch.ones(1, 1, 8, 8, dtype=torch.long)
    found = class_sums(logits, target, IGNORE, softmax=False, entropy=Entropy((0.0, 0.0)))
    assert found.false_negatives.item() == pytest.approx(64 / (1 + np.exp(20.0)), rel=1e-6)
    assert found.entropy.item() == pytest.approx(np.log1p(np.exp(-20.0)), rel=1e-6)


# --- The hardest pixels -------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=100)
@given(
    values=st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0]), min_size=1, max_size=40),
    fraction=st.floats(0.01, 0.99),
)
def test_the_hardest_are_the_largest_and_ties_share(values, fraction):
    losses = torch.tensor(values)
    number = max(1, int(len(values) * fraction + 1e-6))
    found = hardest(losses, len(values), fraction)
    assert found.number == number
    assert found.mean == pytest.approx(sorted(values)[-number:] and sum(sorted(values)[-number:]) / number)
    chosen = found.chosen(losses)
    assert chosen.sum().item() == pytest.approx(number)
    assert (chosen[losses > found.threshold] == 1).all() and (chosen[losses < found.threshold] == 0).all()


@pytest.mark.parametrize("shape", ["uniform", "few values", "sorted", "all equal", "nearly all 0"])
def test_the_sample_does_not_change_which_are_the_hardest(shape, monkeypatch):
    monkeypatch.setattr(sums_module, "SAMPLED", 100)
    monkeypatch.setattr(sums_module, "SAMPLE", 64)
    rng = np.random.default_rng(0)
    values = {
        "uniform": rng.random(5000),
        "few values": rng.integers(0, 3, 5000).astype(float),
        "sorted": np.arange(5000.0),
        "all equal": np.ones(5000),
        "nearly all 0": np.where(rng.random(5000) < 0.001, 1.0, 0.0),
    }[shape]
    for fraction, kind in itertools.product((0.001, 0.1, 0.3, 0.9), (np.float32, np.float64)):
        losses = torch.from_numpy(values.astype(kind))
        number = max(1, int(5000 * fraction + 1e-6))
        found = hardest(losses, 5000, fraction)
        assert found.threshold == np.sort(values.astype(kind))[-number]
        assert found.mean == pytest.approx(np.sort(values)[-number:].mean(), rel=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_the_hardest_of_equal_losses_share_the_gradient(task):
    logits = torch.zeros(1, 1 if task == "binary" else 3, 4, 4)
    target = torch.ones(1, 3, 4, 4, dtype=torch.long) if task == "multilabel" else torch.ones(1, 4, 4).long()
    _, gradient = value_and_gradient(build_loss("topk_ce", task=task, hard_fraction=0.25), logits, target)
    _, whole = value_and_gradient(build_loss("cross_entropy", task=task), logits, target)
    torch.testing.assert_close(gradient, whole)


# --- Lovász -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sorting_integers_is_sorting_floats(task, dtype, monkeypatch):
    loss = build_loss("lovasz", task=task)
    for ignored, absent in ((0.0, False), (0.2, True), (1.0, True)):
        logits, target, _ = batch(task, ignored=ignored, absent=absent, dtype=dtype, scale=3.0)
        value, gradient = value_and_gradient(loss, logits, target)
        with monkeypatch.context() as patch:
            patch.setattr(lovasz, "readable", lambda *_: False)
            expected, slope = value_and_gradient(loss, logits, target)
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(gradient, slope)


# --- Sums over images -------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_boundary_distances_image_by_image_are_those_of_the_whole_batch(task, monkeypatch):
    loss = build_loss("boundary", task=task, distance_mix=0.4)
    logits, target, weight = batch(task)
    more = {"distance": torch.linspace(-3, 9, logits.numel()).view_as(logits)}
    for w in (None, weight):
        value, gradient = value_and_gradient(loss, logits, target, weight=w, **more)
        with monkeypatch.context() as patch:
            patch.setattr(boundary, "walks", lambda *_: False)
            expected, slope = value_and_gradient(loss, logits, target, weight=w, **more)
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(gradient, slope)
    with torch.no_grad():
        assert torch.equal(loss(logits, target, weight, **more), value)
