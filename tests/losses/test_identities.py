"""The losses equal what they say they are: library losses, independent formulas, and each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812
from torchvision.ops import sigmoid_focal_loss

from sweeper.core.records import Task
from sweeper.losses import FAMILIES, build_loss
from tests.support import loss_cases
from tests.support.loss_cases import CASES

IGNORE = 255
FREQUENCIES = (0.7, 0.25, 0.05, 0.0)
VALUES = {
    **loss_cases.VALUES,
    "mix": 0.35,
    "gamma": 1.7,
    "alpha": 0.8,
    "pos_weight": 6.5,
    "class_weight_power": 0.7,
    "fp_weight": 0.4,
    "fn_weight": 0.85,
    "overlap_exponent": 0.75,
}
KERNEL = {"mix", "gamma", "alpha", "pos_weight", "class_weight_power", "fp_weight", "fn_weight", "overlap_exponent"}
KERNEL_CASES = [
    (name, task)
    for name, task in CASES
    if not FAMILIES[name].relative and set(FAMILIES[name].coordinates[task]) <= KERNEL
    if "weigh_overlap" not in FAMILIES[name].fixed
]
"""Points of the kernel by its formula alone; tests/losses/test_formulas.py has the formulas of all."""


def of_task(task: Task) -> tuple[float, ...] | None:
    """Frequencies where there are classes that exclude each other, and several."""
    return FREQUENCIES if task == "multiclass" else None


def coordinates(family: str, task: Task) -> dict[str, float]:
    """A generic point of the family: no coordinate at a neutral value."""
    return {name: VALUES[name] for name in FAMILIES[family].coordinates[task]}


def batch(task: Task, seed: int = 0, scale: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    """float64 logits and labels with some pixels ignored; class 3 of the multi-class batch does not occur."""
    rng = torch.Generator().manual_seed(seed)
    channels, classes = {"binary": (1, 2), "multiclass": (4, 3)}[task]
    shape = (2, 5, 6)
    logits = scale * torch.randn(2, channels, 5, 6, generator=rng, dtype=torch.float64)
    target = torch.randint(0, classes, shape, generator=rng)
    target[torch.rand(shape, generator=rng) < 0.2] = IGNORE
    return logits, target


def reference(task: Task, logits: torch.Tensor, target: torch.Tensor, fixed: dict[str, float], free: dict[str, float]):
    """The formula of the design, one pixel and class at a time, in NumPy; shares no code with the kernel."""
    point = {"mix": 1.0, "gamma": 0.0, "fn_weight": 0.5, "overlap_exponent": 1.0, "pos_weight": 1.0, **fixed, **free}
    point.setdefault("fp_weight", 1 - point["fn_weight"])
    z = np.moveaxis(logits.numpy(), 1, -1).reshape(-1, logits.shape[1])
    y = target.numpy().ravel()
    z, y = z[y != IGNORE], y[y != IGNORE]
    if task == "binary":
        foreground = 1 / (1 + np.exp(-z[:, 0]))
        p = np.stack([1 - foreground, foreground], axis=1)
        alpha = point.get("alpha")
        weights = [1, point["pos_weight"]] if alpha is None else [1 - alpha, alpha]
        overlap_classes = [1]
    else:
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        f = np.array(FREQUENCIES)
        weights = [1.0] * 4
        if "class_weight_power" in point:
            raw = f[:3] ** -point["class_weight_power"]
            raw /= (f[:3] * raw).sum()
            weights = [*raw, raw.max()]
        if point.get("alpha") is not None:
            weights = [1 - point["alpha"]] + [point["alpha"]] * 3
        overlap_classes = [0, 1, 2, 3]
    ce = 0.0
    for pixel, label in zip(p, y, strict=True):
        ce += -weights[label] * (1 - pixel[label]) ** point["gamma"] * np.log(pixel[label]) / len(y)
    overlap = []
    for c in overlap_classes:
        tp = p[y == c, c].sum()
        fp, fn = p[y != c, c].sum(), (1 - p[y == c, c]).sum()
        ti = (tp + 1) / (tp + point["fp_weight"] * fp + point["fn_weight"] * fn + 1)
        base = 1 - ti if (y == c).any() else p[:, c].mean()
        overlap.append(base ** point["overlap_exponent"])
    return point["mix"] * ce + (1 - point["mix"]) * np.mean(overlap)


@pytest.mark.parametrize(("family", "task"), KERNEL_CASES)
@pytest.mark.parametrize("given_coordinates", [True, False], ids=["generic", "defaults"])
def test_every_family_equals_the_formula_of_the_design(family, task, given_coordinates):
    free = FAMILIES[family].coordinates[task]
    given = coordinates(family, task) if given_coordinates else {}
    if "pos_weight" in free and free["pos_weight"].default is None:
        given["pos_weight"] = VALUES["pos_weight"]
    defaults = {name: c.default for name, c in free.items() if c.default is not None}
    logits, target = batch(task)
    loss = build_loss(family, task=task, class_frequencies=FREQUENCIES, **given)(logits, target)
    expected = reference(task, logits, target, FAMILIES[family].fixed, {**defaults, **given})
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("family", "task"), CASES)
def test_float32_agrees_with_float64(family, task):
    logits, target = batch(task)
    loss = build_loss(family, task=task, class_frequencies=of_task(task), **coordinates(family, task))
    assert loss(logits.float(), target).item() == pytest.approx(loss(logits, target).item(), rel=1e-5)


@pytest.mark.parametrize(("family", "task"), CASES)
def test_gradients_agree_with_finite_differences(family, task):
    logits, target = batch(task)
    target = target[..., :3, :]
    loss = build_loss(family, task=task, class_frequencies=of_task(task), **coordinates(family, task))
    assert torch.autograd.gradcheck(lambda z: loss(z, target), logits[:, :, :3].clone().requires_grad_())


def labelled(logits, target):
    keep = target != IGNORE
    return logits[:, 0][keep], target[keep].double()


@pytest.mark.parametrize("pos_weight", [0.2, 1.0, 30.0])
def test_binary_weighted_cross_entropy_is_torchs(pos_weight):
    logits, target = batch("binary")
    ours = build_loss("weighted_ce", task="binary", pos_weight=pos_weight)(logits, target)
    theirs = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(pos_weight, dtype=torch.float64))
    torch.testing.assert_close(ours, theirs(*labelled(logits, target)))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
@pytest.mark.parametrize("alpha", [0.25, 0.9, None])
def test_binary_focal_is_torchvisions(gamma, alpha):
    logits, target = batch("binary")
    ours = build_loss("focal", task="binary", gamma=gamma, alpha=alpha)(logits, target)
    z, y = labelled(logits, target)
    theirs = sigmoid_focal_loss(z, y, alpha=-1 if alpha is None else alpha, gamma=gamma, reduction="mean")
    torch.testing.assert_close(ours, theirs)


def test_multiclass_cross_entropy_is_torchs():
    logits, target = batch("multiclass")
    ours = build_loss("cross_entropy", task="multiclass")(logits, target)
    torch.testing.assert_close(ours, F.cross_entropy(logits, target, ignore_index=IGNORE))


def test_multiclass_weights_are_torchs_but_for_the_divisor():
    logits, target = batch("multiclass")
    ours = build_loss("weighted_ce", task="multiclass", class_weight_power=1, class_frequencies=FREQUENCIES)
    weights = torch.tensor([1 / (3 * f) for f in FREQUENCIES[:3]] + [1 / (3 * 0.05)], dtype=torch.float64)
    theirs = F.cross_entropy(logits, target, weights, ignore_index=IGNORE, reduction="sum")
    torch.testing.assert_close(ours(logits, target), theirs / (target != IGNORE).sum())


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_focal_without_exponent_and_balance_is_cross_entropy(task):
    logits, target = batch(task)
    focal = build_loss("focal", task=task, gamma=0, alpha=None)(logits, target)
    torch.testing.assert_close(focal, build_loss("cross_entropy", task=task)(logits, target))


@pytest.mark.parametrize("pos_weight", [0.5, 9.0])
def test_alpha_and_pos_weight_are_one_coordinate(pos_weight):
    logits, target = batch("binary")
    alpha = pos_weight / (1 + pos_weight)
    focal = build_loss("focal", task="binary", gamma=0, alpha=alpha)(logits, target)
    weighted = build_loss("weighted_ce", task="binary", pos_weight=pos_weight)(logits, target)
    torch.testing.assert_close(focal / (1 - alpha), weighted)


def test_softmax_over_background_and_foreground_is_the_sigmoid():
    z, target = batch("binary")
    two = torch.cat([torch.zeros_like(z), z], dim=1)
    for gamma in (0.0, 2.0):
        binary = build_loss("focal", task="binary", gamma=gamma, alpha=None)(z, target)
        softmax = build_loss("focal", task="multiclass", gamma=gamma, alpha=None)(two, target)
        torch.testing.assert_close(binary, softmax)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_tversky_with_equal_halves_is_dice(task):
    logits, target = batch(task)
    tversky = build_loss("tversky", task=task, fn_weight=0.5)(logits, target)
    torch.testing.assert_close(tversky, build_loss("dice", task=task)(logits, target))


def test_tversky_with_ones_is_jaccard_which_bounds_dice():
    """1 − J = 2 D / (1 + D) holds for D = 1 − Dice where smoothing does not matter."""
    rng = torch.Generator().manual_seed(1)
    logits = torch.randn(4, 1, 64, 64, generator=rng, dtype=torch.float64)
    target = torch.randint(0, 2, (4, 64, 64), generator=rng)
    dice = build_loss("dice", task="binary")(logits, target)
    jaccard = build_loss("tversky", task="binary", fn_weight=1, fp_weight=1)(logits, target)
    torch.testing.assert_close(jaccard, 2 * dice / (1 + dice), rtol=1e-3, atol=0)


def test_fp_weight_is_the_rest_of_fn_weight_unless_given():
    logits, target = batch("binary")
    implied = build_loss("tversky", task="binary", fn_weight=0.8)(logits, target)
    torch.testing.assert_close(
        implied, build_loss("tversky", task="binary", fn_weight=0.8, fp_weight=0.2)(logits, target)
    )
    other = build_loss("tversky", task="binary", fn_weight=0.8, fp_weight=0.6)(logits, target)
    assert other > implied


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_mix_goes_straight_from_dice_to_cross_entropy(task):
    logits, target = batch(task)
    dice = build_loss("dice", task=task)(logits, target)
    ce = build_loss("cross_entropy", task=task)(logits, target)
    for mix in (0.0, 0.3, 1.0):
        mixed = build_loss("dice_ce", task=task, mix=mix)(logits, target)
        torch.testing.assert_close(mixed, mix * ce + (1 - mix) * dice)


@pytest.mark.parametrize("family", [name for name, task in CASES if task == "multiclass"])
def test_a_constant_added_to_softmax_logits_changes_nothing(family):
    logits, target = batch("multiclass")
    loss = build_loss(family, task="multiclass", class_frequencies=FREQUENCIES, **coordinates(family, "multiclass"))
    torch.testing.assert_close(loss(logits + 37.5, target), loss(logits, target))


@pytest.mark.parametrize(("family", "task"), CASES)
def test_better_logits_cost_less(family, task):
    """Moving every labelled pixel's logit towards its label lowers every loss."""
    logits, target = batch(task)
    loss = build_loss(family, task=task, class_frequencies=of_task(task), **coordinates(family, task))
    if task == "binary":
        push = (2.0 * (target == 1) - 1).unsqueeze(1)
    else:
        push = F.one_hot(target.clamp(max=3), 4).movedim(-1, 1).double()
    values = [loss(logits + amount * push, target).item() for amount in (-1.0, 0.0, 1.0, 30.0)]
    assert values == sorted(values, reverse=True)
    assert 0 <= values[-1] < 1e-3


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    order=st.permutations(range(4)),
    scale=st.floats(0.1, 10),
    family=st.sampled_from([name for name, task in CASES if task == "multiclass"]),
)
def test_renaming_classes_changes_nothing(seed, order, scale, family):
    if FAMILIES[family].background_first:
        order = [0, *(name for name in order if name)]
    logits, target = batch("multiclass", seed, scale)
    renamed = torch.full_like(target, IGNORE)
    for new, old in enumerate(order):
        renamed[target == old] = new
    arguments = coordinates(family, "multiclass")
    loss = build_loss(family, task="multiclass", class_frequencies=FREQUENCIES, **arguments)(logits, target)
    frequencies = [FREQUENCIES[old] for old in order]
    other = build_loss(family, task="multiclass", class_frequencies=frequencies, **arguments)
    torch.testing.assert_close(other(logits[:, list(order)], renamed), loss)
