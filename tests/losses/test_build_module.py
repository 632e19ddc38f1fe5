"""Properties of every loss besides its formula: any batch, absent classes, identities.

Formulas are in test_families_formulas.py, slopes and precisions in test_build_module_numerics.py.
"""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812

from sweeper.core.errors import LossError
from sweeper.losses import FAMILIES, build_loss, other_losses
from tests.support.loss_cases import CASES, CLASSES, IGNORE, compute_gradient, count_channels, draw_batch, make_loss
from tests.support.marks import EXHAUSTIVE


@pytest.mark.parametrize(("family", "task"), CASES)
def test_a_nan_on_a_labelled_pixel_makes_the_loss_nan(family, task):
    """Divergence must be visible, not masked."""
    logits, target = draw_batch(task)
    logits[0, 0, 0, 0] = float("nan")
    assert make_loss(family, task)(logits, target).isnan()


@pytest.mark.parametrize(("family", "task"), CASES)
def test_any_ignore_index_and_type_of_labels_give_the_same_loss(family, task):
    logits, target = draw_batch(task)
    target[..., :3, :] = IGNORE
    expected = make_loss(family, task)(logits, target)
    for dtype in (torch.uint8, torch.uint16, torch.float32, torch.bfloat16):
        assert torch.equal(make_loss(family, task)(logits, target.to(dtype)), expected)
    negative = make_loss(family, task, ignore_index=-100)
    renamed = torch.where(target == IGNORE, -100, target)
    assert torch.equal(negative(logits, renamed.int()), expected)
    # 156 is −100 in eight bits, and must not be ignored.
    assert torch.equal(negative(logits, torch.zeros_like(target).to(torch.uint8)), negative(logits, target * 0))


@pytest.mark.parametrize(("family", "task"), CASES)
def test_a_perfect_answer_has_loss_0_and_gradient_0(family, task):
    """(1 − TI)^κ with κ < 1 has no finite slope at TI = 1 when written naively."""
    _, target = draw_batch(task)
    signs = 2 * F.one_hot(target, 2 if task == "binary" else CLASSES).movedim(-1, 1).float() - 1
    perfect = 1e4 * (signs[:, 1:] if task == "binary" else signs)
    value, gradient = compute_gradient(make_loss(family, task), perfect, target)
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert (gradient == 0).all()


LAYOUTS = {
    "transposed": lambda x: x.mT.contiguous().mT,
    "channels_last": lambda x: x.movedim(1, -1).contiguous().movedim(-1, 1),
    "one image expanded": lambda x: x[:1].expand_as(x),
}


@pytest.mark.parametrize(("family", "task"), CASES)
def test_the_loss_is_independent_of_precision_memory_layout_and_earlier_calls(family, task):
    logits, target = draw_batch(task, size=16)
    loss = make_loss(family, task)
    state = torch.get_rng_state()
    value, slope = compute_gradient(loss, logits.double(), target)
    assert value.dtype == torch.float64
    single, _ = compute_gradient(loss, logits, target)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), value, rtol=2e-5, atol=2e-8)
    assert torch.equal(compute_gradient(loss, logits.double(), target)[1], slope)
    for name, layout in LAYOUTS.items():
        laid_out = layout(logits.double())
        expected, gradient = compute_gradient(loss, laid_out.contiguous(), target)
        leaf = laid_out.detach().requires_grad_()
        value = loss(leaf, target.mT.contiguous().mT)
        torch.testing.assert_close(value.detach(), expected, msg=name)
        torch.testing.assert_close(torch.autograd.grad(value, leaf)[0], gradient, msg=name)
    assert torch.equal(torch.get_rng_state(), state)


# --- Lovász -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["binary", "multiclass"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lovasz_with_sorted_integers_equals_lovasz_with_sorted_floats(task, dtype, monkeypatch):
    """On a processor the bits of the errors are sorted in place of the errors."""
    loss = build_loss("lovasz", task=task)
    loss.checks_labels = False
    logits, mixed = draw_batch(task)
    some = mixed.clone()
    some[:, :3] = IGNORE
    for target in (mixed, some, mixed * 0, torch.full_like(mixed, IGNORE)):
        value, gradient = compute_gradient(loss, 3 * logits.to(dtype), target)
        with monkeypatch.context() as patch:
            patch.setattr(other_losses, "is_readable_now", lambda *_: False)
            expected, slope = compute_gradient(loss, 3 * logits.to(dtype), target)
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(gradient, slope)


# --- As a module --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "task"), CASES)
def test_pickling_and_copying_keep_the_loss(family, task):
    logits, target = draw_batch(task)
    loss = make_loss(family, task)
    expected = loss(logits, target)
    for other in (pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss), loss.half()):
        assert torch.equal(other(logits, target), expected)


@pytest.mark.parametrize(("family", "task"), CASES)
def test_a_target_may_have_a_channel_and_two_classes_two_channels(family, task):
    logits, target = draw_batch(task)
    loss = make_loss(family, task)
    expected = loss(logits, target)
    assert torch.equal(loss(logits, target.unsqueeze(1)), expected)
    if task == "binary":
        torch.testing.assert_close(loss(torch.cat([-logits, 0 * logits], 1), target.unsqueeze(1)), expected)


def make_label_map(family, logits):
    """Return some distances to boundaries, if the family needs them."""
    if FAMILIES[family].needs_map is None:
        return {}
    return {"distance": torch.linspace(-3, 9, logits.numel(), device=logits.device).view_as(logits)}


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_no_loss_waits_for_the_device(task):
    """Tensors on `meta` have no values: anything that would have to read one fails there."""
    logits, target = draw_batch(task)
    for family in (name for name, for_task in CASES if for_task == task):
        meta = logits.to("meta").requires_grad_()
        assert make_loss(family, task)(meta, target.to("meta"), **make_label_map(family, meta)).shape == ()


TRACED = {("dice_focal", "multiclass")}
"""Tried by every `.ci/run`, up to the graphs of values and gradients: to compile them takes minutes."""


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # warnings of the compiler
@pytest.mark.parametrize(
    ("family", "task", "backend"),
    [
        *(pytest.param(*case, "aot_eager") for case in CASES if case in TRACED),
        *(pytest.param(*case, "inductor", marks=EXHAUSTIVE) for case in CASES),
    ],
)
def test_torch_compile_gives_the_same_in_one_graph(family, task, backend):
    logits, target = draw_batch(task)
    target[..., :2, :] = IGNORE
    more = make_label_map(family, logits)
    torch.compiler.reset()
    compiled = torch.compile(make_loss(family, task), fullgraph=True, backend=backend)
    value, gradient = compute_gradient(make_loss(family, task), logits, target, **more)
    other_value, other_gradient = compute_gradient(compiled, logits, target, **more)
    torch.testing.assert_close(other_value, value)
    torch.testing.assert_close(other_gradient, gradient)


# --- Any batch ----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(
    case=st.sampled_from(CASES),
    shape=st.tuples(st.integers(0, 3), st.integers(1, 12), st.integers(1, 12)),
    levels=st.tuples(
        st.sampled_from([0.0, 0.01, 0.5, 1.0]),  # share of rare labels
        st.sampled_from([0.0, 0.3, 0.99, 1.0]),  # share of ignored pixels
        st.sampled_from([0.0, 1e-4, 1.0, 40.0, 1e4]),  # size of the logits
    ),
    seed=st.integers(0, 10**6),
)
def test_values_and_gradients_are_finite_for_any_batch(case, shape, levels, seed):
    rare, ignored, scale = levels
    family, task = case
    images, height, width = shape
    rng = torch.Generator().manual_seed(seed)
    shape = (images, count_channels(task), height, width)
    logits = (2 * scale * torch.rand(shape, generator=rng) - scale).clamp(-1e4, 1e4)
    places = (images, height, width)
    target = (torch.rand(places, generator=rng) < rare).long() * (CLASSES - 1 if task == "multiclass" else 1)
    target[torch.rand(places, generator=rng) < ignored] = IGNORE
    value, gradient = compute_gradient(make_loss(family, task), logits, target)
    assert 0 <= value < float("inf")
    assert gradient.isfinite().all()
    outside = (target == IGNORE).unsqueeze(1).expand_as(gradient)
    assert (gradient[outside] == 0).all()


def draw_volume(task):
    """Return logits and target of two volumes of four slices."""
    generator = torch.Generator().manual_seed(5)
    channels = count_channels(task)
    logits = 3 * torch.randn(2, channels, 4, 8, 6, generator=generator)
    target = torch.randint(0, max(2, channels), (2, 4, 8, 6), generator=generator)
    target[0, 1, :3] = IGNORE
    return logits, target


@pytest.mark.parametrize(("family", "task"), [case for case in CASES if not FAMILIES[case[0]].images_only])
def test_the_loss_of_a_volume_is_independent_of_the_order_of_its_axes(family, task):
    logits, target = draw_volume(task)
    loss = make_loss(family, task)
    value = loss(logits, target)
    assert torch.isclose(loss(logits.permute(0, 1, 4, 2, 3), target.permute(0, 3, 1, 2)), value)
    image = loss(logits[:, :, :1], target[:, :1]), loss(logits[:, :, 0], target[:, 0])
    assert torch.equal(*image)
    logits.requires_grad_()
    loss(logits, target).backward()
    assert logits.grad.shape == logits.shape and logits.grad.isfinite().all()


def test_cross_entropy_of_a_volume_equals_that_of_torch():
    for task in ("binary", "multiclass"):
        logits, target = draw_volume(task)
        labelled = target != IGNORE
        if task == "binary":
            each = F.binary_cross_entropy_with_logits(logits[:, 0], (target == 1).float(), reduction="none")
            expected = each[labelled].mean()
        else:
            expected = F.cross_entropy(logits, target, ignore_index=IGNORE)
        assert torch.isclose(build_loss("cross_entropy", task=task)(logits, target), expected)


@pytest.mark.parametrize(("family", "task"), [case for case in CASES if FAMILIES[case[0]].images_only])
def test_a_loss_of_neighbouring_pixels_refuses_a_volume(family, task):
    with pytest.raises(LossError, match=rf"logits of {family} must be of images .* got \(2, .* give the slices"):
        make_loss(family, task)(*draw_volume(task))
