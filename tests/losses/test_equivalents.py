"""The text for other libraries: what it computes is what ours computes."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.core.errors import LossError
from sweeper.losses import FAMILIES, build_loss, equivalent
from sweeper.losses.families import TASKS
from sweeper.losses.snippet import rounded
from tests.support.loss_cases import CASES, needed

pytest.importorskip("segmentation_models_pytorch")
pytest.importorskip("monai", reason="needs the extra `oracles`")

FREQUENCIES = (700, 250, 50)
ELSEWHERE = {
    *itertools.product(("cross_entropy", "weighted_ce", "focal", "dice", "jaccard", "tversky"), TASKS),
    *itertools.product(("dice_ce", "dice_focal"), TASKS),
    ("focal_tversky", "binary"),
}
"""Where a library agrees. The others are nowhere, or see test_traps.py."""


def run(text: str):
    names: dict[str, object] = {}
    exec(compile(text, "equivalent", "exec"), names)
    return names["equivalent"]


def batch(task, seed=0):
    """float64 logits and labels in which every class occurs and no pixel is ignored."""
    rng = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, 1 if task == "binary" else 3, 12, 12, generator=rng, dtype=torch.float64)
    return logits, torch.randint(0, 2 if task == "binary" else 3, (2, 12, 12), generator=rng)


def check(family, task, params, frequencies=FREQUENCIES, seed=0):
    text = equivalent(family, params, task, frequencies)
    assert text is not None
    logits, target = batch(task, seed)
    exact = {name: rounded(value) for name, value in params.items()}
    ours = build_loss(family, task=task, class_frequencies=frequencies, **exact)
    leaves = [logits.float().requires_grad_() for _ in range(2)]
    values = [loss(leaf, target) for loss, leaf in zip((ours, run(text)), leaves, strict=True)]
    torch.testing.assert_close(values[1].float(), values[0], rtol=1e-5, atol=1e-6)
    slopes = [torch.autograd.grad(value, leaf)[0] for value, leaf in zip(values, leaves, strict=True)]
    torch.testing.assert_close(slopes[1], slopes[0], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("family", "task"), CASES)
def test_the_literatures_point_is_the_same_elsewhere_or_nothing_is_claimed(family, task):
    params = needed(family, task)
    if (family, task) not in ELSEWHERE:
        assert equivalent(family, params, task, FREQUENCIES if task == "multiclass" else None) is None
    else:
        check(family, task, params)


VALUES = {
    "mix": st.floats(0.01, 0.99),
    "gamma": st.floats(1, 5),
    "alpha": st.floats(0.05, 0.95),
    "pos_weight": st.floats(0.1, 100),
    "class_weight_power": st.floats(0, 1.1),
    "fn_weight": st.floats(0.3, 0.9),
    "overlap_exponent": st.floats(0.4, 2),
}


@settings(deadline=None, max_examples=80)
@given(data=st.data(), case=st.sampled_from(sorted(ELSEWHERE)), seed=st.integers(0, 10**6))
def test_any_point_is_the_same_elsewhere(data, case, seed):
    family, task = case
    free = [name for name in FAMILIES[family].coordinates[task] if name in VALUES]
    params = {name: data.draw(VALUES[name], name) for name in free}
    if family == "tversky" and task == "multiclass":
        params["overlap_exponent"] = 1.0
    check(family, task, params, seed=seed)


def test_the_exponent_of_several_classes_is_claimed_by_nobody():
    assert equivalent("tversky", {"overlap_exponent": 0.75}, "multiclass", FREQUENCIES) is None
    check("tversky", "binary", {"overlap_exponent": 0.75})


def test_alpha_against_another_class_than_the_first_is_claimed_by_nobody():
    check("focal", "multiclass", {"alpha": 0.8}, (700, 250, 50))
    assert equivalent("focal", {"alpha": 0.8}, "multiclass", (50, 250, 700)) is None


@pytest.mark.parametrize("mix", [0.0, 1.0])
def test_a_part_without_weight_is_not_written_down(mix):
    text = equivalent("dice_ce", {"mix": mix}, "binary")
    assert ("smp" in text) == (mix == 0) and ("import torch" in text) == (mix == 1)
    check("dice_ce", "binary", {"mix": mix})


def test_ignored_pixels_agree_where_the_library_can():
    for family, params in (("cross_entropy", {}), ("weighted_ce", {"class_weight_power": 1.0})):
        logits, target = batch("multiclass")
        target[:, :3] = 255
        ours = build_loss(family, task="multiclass", class_frequencies=FREQUENCIES, **params)(logits.float(), target)
        theirs = run(equivalent(family, params, "multiclass", FREQUENCIES))(logits.float(), target)
        torch.testing.assert_close(theirs, ours)


def test_what_cannot_be_built_is_refused():
    with pytest.raises(LossError, match="gamma"):
        equivalent("focal", {"gamma": -1.0}, "binary")
    with pytest.raises(LossError, match="pos_weight"):
        equivalent("weighted_ce", {}, "binary")
