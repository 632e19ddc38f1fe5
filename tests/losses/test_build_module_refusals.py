"""Logits, labels and maps that do not fit are refused with a remedy, or warned of."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from sweeper.core.errors import LossError
from sweeper.losses import build_loss, per_pixel
from sweeper.losses.build import CHECKED_BATCHES
from tests.support.loss_cases import CASES, compute_gradient, draw_batch, make_loss


def make_labels(*values: int, dtype: torch.dtype = torch.long) -> torch.Tensor:
    """Return a target (2, 8, 8) in which these values occur."""
    target = torch.zeros(2, 8, 8, dtype=dtype)
    target.flatten()[: len(values)] = torch.tensor(values).to(dtype)
    return target


LABELLED = "for pixels that do not count, got"


@pytest.mark.parametrize(
    ("task", "ignore", "target", "words"),
    [
        ("binary", 255, make_labels(0, 1, 2), ["labels 0 to 1, or 255", f"{LABELLED} 2;", "number the classes from 0"]),
        ("binary", -100, make_labels(0, 255), [f"{LABELLED} 255;", "(target > 0).long()"]),
        ("binary", 255, make_labels(0, 1, -100), [f"{LABELLED} -100;", "give ignore_index=-100"]),
        ("binary", 255, make_labels(-1), [f"{LABELLED} -1;", "give ignore_index=-1"]),
        ("binary", 255, make_labels(1, 7), [f"{LABELLED} 7;"]),
        ("multiclass", 255, make_labels(0, 3), ["labels 0 to 2, or 255", f"{LABELLED} 3;"]),
        ("multiclass", -100, make_labels(0, 2, 255), [f"{LABELLED} 255;", "give ignore_index=255"]),
        ("multiclass", 255, make_labels(-1), [f"{LABELLED} -1;", "give ignore_index=-1"]),
        ("binary", 255, make_labels(0, 1).float() * 0.7, [f"{LABELLED} 0.7;", "mixing, smoothing", "train without"]),
        ("multiclass", 255, make_labels(0, 1) + 0.5, [f"{LABELLED} 0.5;", "mixing, smoothing", "train without"]),
        ("binary", 255, make_labels(0, 1) * torch.nan, [f"{LABELLED} nan;"]),
    ],
)
def test_values_that_are_no_class_are_refused_in_every_batch(task, ignore, target, words):
    logits, right = draw_batch(task)
    for family, for_task in CASES:
        if for_task == task:
            loss = make_loss(family, task, ignore_index=ignore)
            for _ in range(6):
                loss(logits, right)
            with pytest.raises(LossError) as caught:
                loss(logits, target)
            assert all(word in str(caught.value) for word in words), caught.value
            assert "target.long()" not in str(caught.value)  # which would make a class of any value
            assert loss(logits, right).isfinite()


@pytest.mark.parametrize(("family", "task"), CASES)
def test_values_that_are_no_class_do_not_count_where_nothing_can_be_read(family, task, monkeypatch):
    logits, target = draw_batch(task)
    target[..., :2, :] = 255
    loss = make_loss(family, task)
    expected = compute_gradient(loss, logits, target)
    monkeypatch.setattr(per_pixel, "read_ends", lambda values: [])
    for wrong in (7, -1, -100, 0.5):
        value, gradient = compute_gradient(loss, logits, torch.where(target == 255, wrong, target))
        assert torch.equal(value, expected[0]) and torch.equal(gradient, expected[1])


def test_values_on_a_gpu_are_read_when_they_have_arrived(monkeypatch):
    """Stands for a GPU, whose events are done one call later."""
    ready: list[bool] = []

    class Values(torch.Tensor):
        is_cuda = True
        device = torch.device("cuda")

    class Event:
        def query(self):
            return ready.pop(0) if ready else False

    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(record_event=Event))
    monkeypatch.setattr(torch, "aminmax", lambda values: (values.as_subclass(Values), values.as_subclass(Values)))
    sent = [torch.tensor(float(n)).as_subclass(Values) for n in range(4)]
    assert per_pixel.read_ends(sent[0]) == []
    ready[:] = [True, False]
    assert per_pixel.read_ends(sent[1]) == [[0.0, 0.0]]
    assert per_pixel.read_ends(sent[2]) == []
    ready[:] = [True, True, True]
    assert per_pixel.read_ends(sent[3]) == [[n, n] for n in (1.0, 2.0, 3.0)] and per_pixel.SENT == []


@pytest.mark.cuda
@pytest.mark.parametrize(("family", "task"), CASES)
def test_values_on_a_gpu_are_refused_one_call_later(family, task):
    logits, target = (part.cuda() for part in draw_batch(task))
    loss = make_loss(family, task)
    loss(logits, torch.where(target == 1, -1, target))
    torch.cuda.synchronize()
    with pytest.raises(LossError, match="got -1"):
        loss(logits, target)
    assert loss(logits, target).isfinite()


def test_a_probable_mask_of_0_and_255_is_warned_of_once():
    logits, _ = draw_batch("binary")
    loss = build_loss("dice", task="binary")
    with pytest.warns(UserWarning, match=r"255 is the foreground of these masks.*\(target > 0\)\.long"):
        for _ in range(CHECKED_BATCHES):
            loss(logits, make_labels(0, 255))
    loss(logits, make_labels(0, 255))  # a warning would be an error here


@pytest.mark.parametrize(
    "target", [make_labels(0, 1, 255), make_labels(0), make_labels(1, 1), make_labels(1, dtype=torch.bool)]
)
def test_right_labels_are_accepted_without_warning(target):
    logits, _ = draw_batch("binary")
    loss = build_loss("dice", task="binary")
    loss(logits, target)
    for _ in range(CHECKED_BATCHES):  # a warning would be an error here
        loss(logits, make_labels(0, 255) if 1 in target else make_labels(0))


@pytest.mark.parametrize(("family", "task"), CASES)
def test_the_check_of_labels_can_be_switched_off(family, task):
    logits, target = draw_batch(task)
    loss = make_loss(family, task)
    loss.checks_labels = False
    assert loss(logits, torch.where(target == 1, 255, target)).isfinite()
    if task == "binary":
        assert loss(logits, make_labels(0, 1, 2)).isfinite()


@pytest.mark.parametrize(
    ("task", "logits", "target", "words"),
    [
        ("binary", (2, 3, 4, 4), (2, 4, 4), ["(N, 1, H, W) or (N, 2, H, W)", "(2, 3, 4, 4)"]),
        ("binary", (2, 1, 4, 4), (2, 8, 8), ["(N, H, W)", "(2, 1, 4, 4) and (2, 8, 8)"]),
        ("binary", (2, 2, 4, 4), (2, 8, 8), ["(N, H, W)", "(2, 2, 4, 4) and (2, 8, 8)"]),
        ("binary", (2, 2, 4, 4), (2, 2, 4, 4), ["(2, 2, 4, 4) and (2, 2, 4, 4)", "target.argmax(1)"]),
        ("multiclass", (2, 1, 4, 4), (2, 4, 4), ["C ≥ 2"]),
        ("multiclass", (2, 4, 4, 4), (2, 4, 4), ["(3)", "got 4"]),
    ],
)
def test_shapes_that_do_not_fit_are_refused(task, logits, target, words):
    weighting = {"class_weight_power": 1.0} if task == "multiclass" else {}
    loss = build_loss("dice_ce", task=task, class_frequencies=(0.9, 0.07, 0.03), **weighting)
    with pytest.raises(LossError) as caught:
        loss(torch.zeros(logits), torch.zeros(target, dtype=torch.long))
    for word in words:
        assert word in str(caught.value)


def test_other_axes_maps_and_one_hot_targets_are_refused_with_a_remedy():
    logits, target = draw_batch("binary")
    with pytest.raises(LossError, match=r"must have the shape \(N, 1, H, W\).*an axis D before H for volumes"):
        build_loss("dice", task="binary")(logits[..., None, None], target)
    with pytest.raises(LossError, match=r"target\.argmax\(1\)"):
        build_loss("dice", task="multiclass")(torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 8).long())
    with pytest.raises(LossError, match="distance must have the shape"):
        build_loss("boundary", task="binary")(logits, target, distance=torch.ones_like(target))
