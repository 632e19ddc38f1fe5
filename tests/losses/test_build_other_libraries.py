"""Where another library's loss is right, ours equals it: the text that `equivalent` writes, and beyond it.

Where it is not: test_build_library_traps.py.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import sigmoid_focal_loss

from sweeper.losses import FAMILIES, build_loss
from sweeper.losses.families import TASKS
from sweeper.losses.snippet import round_significant
from tests.support.loss_cases import CASES, IGNORE, needed
from tests.support.other_libraries import equivalent

smp = pytest.importorskip("segmentation_models_pytorch.losses")
monai = pytest.importorskip("monai.losses", reason="needs the extra `oracles`")
kornia = pytest.importorskip("kornia.losses", reason="needs the extra `oracles`")

FREQUENCIES = (700, 250, 50)
ELSEWHERE = {
    *itertools.product(("cross_entropy", "weighted_ce", "focal", "dice", "jaccard", "tversky"), TASKS),
    *itertools.product(("dice_ce", "dice_focal"), TASKS),
    ("focal_tversky", "binary"),
}
"""Where a library agrees. The others are nowhere, or see test_build_library_traps.py."""


def run(text: str):
    names: dict[str, object] = {}
    exec(compile(text, "equivalent", "exec"), names)
    return names["equivalent"]


def batch(task, seed=0, ignored=False):
    """float64 logits and labels in which every class occurs."""
    rng = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, 1 if task == "binary" else 3, 12, 12, generator=rng, dtype=torch.float64)
    target = torch.randint(0, 2 if task == "binary" else 3, (2, 12, 12), generator=rng)
    if ignored:
        target[..., 3:6, 5:] = IGNORE
    return logits, target


def check(family, task, params, frequencies=FREQUENCIES, seed=0):
    text = equivalent(family, params, task, frequencies)
    assert text is not None
    logits, target = batch(task, seed)
    exact = {name: round_significant(value) for name, value in params.items()}
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


def test_an_exponent_of_several_classes_and_alpha_against_another_than_the_first_are_claimed_by_nobody():
    assert equivalent("tversky", {"overlap_exponent": 0.75}, "multiclass", FREQUENCIES) is None
    check("tversky", "binary", {"overlap_exponent": 0.75})
    check("focal", "multiclass", {"alpha": 0.8}, (700, 250, 50))
    assert equivalent("focal", {"alpha": 0.8}, "multiclass", (50, 250, 700)) is None


@pytest.mark.parametrize("mix", [0.0, 1.0])
def test_a_part_without_weight_is_not_written_down(mix):
    text = equivalent("dice_ce", {"mix": mix}, "binary")
    assert ("smp" in text) == (mix == 0) and ("import torch" in text) == (mix == 1)
    check("dice_ce", "binary", {"mix": mix})


@pytest.mark.parametrize(("family", "params"), [("cross_entropy", {}), ("weighted_ce", {"class_weight_power": 1.0})])
def test_ignored_pixels_agree_where_the_library_can(family, params):
    logits, target = batch("multiclass", ignored=True)
    ours = build_loss(family, task="multiclass", class_frequencies=FREQUENCIES, **params)(logits.float(), target)
    close(run(equivalent(family, params, "multiclass", FREQUENCIES))(logits.float(), target), ours)


# --- What `equivalent` does not write down ----------------------------------------------------------------------


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
