"""The certification passes for what is shipped, and catches a family that is broken in any of these ways."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from sweeper.losses import FAMILIES
from sweeper.losses.build import build_loss
from sweeper.losses.coordinates import uses_frequencies
from tests.support import certification, certified_loss
from tests.support.certification import IDENTITIES, RULES, Check, certify
from tests.support.certified_loss import Subject
from tests.support.loss_cases import CASES, IGNORE


@pytest.fixture
def uninitialised_memory_is_nan() -> Iterator[None]:
    """Yield what was left as it came shows, whatever happened to stand there."""
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_shipped_is_certified(family, uninitialised_memory_is_nan):
    checks = certify(family)
    assert [f"{c.name} ({c.precision}): {c.detail}" for c in checks if not c.passed] == []
    assert {"float32", "bfloat16"} <= {c.precision for c in checks}
    assert {c.task for c in checks} == set(FAMILIES[family].tasks)
    assert all(c.family == family and c.detail for c in checks)
    assert len({(c.task, c.name, c.precision) for c in checks}) == len(checks) >= 9


@pytest.mark.cuda
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_shipped_is_certified_on_a_gpu(family):
    checks = certify(family, "cuda")
    assert [f"{c.name} ({c.precision}): {c.detail}" for c in checks if not c.passed] == []
    assert "float16" in {c.precision for c in checks}


def test_every_rule_is_tried_on_something():
    subjects = [Subject(family, task, "cpu", "float64") for family, task in CASES]
    assert [rule.name for rule in RULES if not any(rule.applies(subject) for subject in subjects)] == []
    broken = {rule for *_, rule in MUTATIONS} | {"renamed classes cost the same"}
    for name in {rule.name for rule in RULES} - {rule.name for rule in IDENTITIES} - broken:
        pytest.fail(f"{name}: nothing shows that this rule can fail; add a broken loss to {__file__} MUTATIONS")


# --- Broken families ------------------------------------------------------------------------------------------------


class Wrapped(torch.nn.Module):
    """The true loss with something done to it; subclasses do it in `forward`."""

    def __init__(self, family, **arguments):
        super().__init__()
        self.true = build_loss(family, **arguments)
        self.task, self.ignore_index = arguments["task"], arguments["ignore_index"]

    def forward(self, logits, target):
        return self.true(logits, target)

    def labelled(self, target):
        return target != self.ignore_index


class WrongGradientSign(Wrapped):
    """The right value with the slope turned round."""

    def forward(self, logits, target):
        value = self.true(logits, target)
        return 2 * value.detach() - value


class IgnoreLeak(Wrapped):
    """Ignored pixels count as the first class."""

    def forward(self, logits, target):
        return self.true(logits, torch.where(self.labelled(target), target, 0))


class MeanOverAllPixels(Wrapped):
    """Divided by the number of all pixels, the ignored ones among them."""

    def forward(self, logits, target):
        return self.true(logits, target) * self.labelled(target).double().mean().to(logits.dtype)


class MaskedByProduct(Wrapped):
    """Ignored pixels are multiplied by 0, which keeps NaN and infinity."""

    def forward(self, logits, target):
        mask = self.labelled(target)
        return self.true(logits * (mask if mask.ndim == logits.ndim else mask.unsqueeze(1)), target) + 0 * logits.sum()


class NanAtExtremes(Wrapped):
    """log(sigmoid(z)) in place of log-sigmoid."""

    def forward(self, logits, target):
        one = target == 1
        z = logits if one.ndim == logits.ndim else logits[:, :1].squeeze(1)
        p = torch.sigmoid(torch.where(self.labelled(target), z, 0))
        return self.true(logits, target) - 1e-3 * torch.where(one, p.log() * p, 0).mean()


class Sigmoids(Wrapped):
    """A sigmoid for each class in place of the softmax."""

    def forward(self, logits, target):
        labelled = self.labelled(target).unsqueeze(1)
        own = F.one_hot(torch.where(self.labelled(target), target, 0), logits.shape[1]).movedim(-1, 1)
        z = torch.where(labelled, logits, 0)
        each = F.binary_cross_entropy_with_logits(z, own.to(z.dtype), reduction="none")
        return (each * labelled).sum() / labelled.sum().clamp(min=1)


class LowPrecision(Wrapped):
    """Computed in the precision of the logits."""

    def forward(self, logits, target):
        return self.true(logits, target).to(logits.dtype).to(torch.promote_types(logits.dtype, torch.float32))


class Raising(Wrapped):
    def forward(self, logits, target):
        raise RuntimeError("not on this machine")


MUTATIONS = [
    (IgnoreLeak, "cross_entropy", "binary", "equals torch's cross-entropy"),
    (WrongGradientSign, "dice_ce", "binary", "its slope agrees with finite differences"),
    (IgnoreLeak, "cross_entropy", "multiclass", "a batch without labels costs nothing"),
    (MaskedByProduct, "focal", "binary", "ignored pixels change nothing"),
    (MeanOverAllPixels, "focal", "binary", "ignored pixels are as good as absent"),
    (MeanOverAllPixels, "dice_ce", "multiclass", "ignored pixels are as good as absent"),
    (MeanOverAllPixels, "boundary", "binary", "ignored pixels are as good as absent"),
    (IgnoreLeak, "soft_cldice", "binary", "ignored pixels are as good as absent"),
    (NanAtExtremes, "dice", "binary", "extreme inputs stay finite"),
    (Sigmoids, "focal", "multiclass", "γ = 0 without α is cross-entropy"),
    (LowPrecision, "boundary", "binary", "half precision is computed in float32"),
]
"""Each rule of the certificate is broken by one of them; the renamed classes below."""


def certify_broken(monkeypatch, family: str, task: str, build, only: str | None = None) -> list[Check]:
    """Certify with `build` in the place of `build_loss` for one family.

    Args:
        monkeypatch: pytest's.
        family: the family.
        task: the task.
        build: replaces `build_loss`.
        only: the requested rule; None = all.
    """
    rules = tuple(rule for rule in RULES if only in (None, rule.name))

    def builds(name, **arguments):
        arguments.setdefault("ignore_index", IGNORE)
        return (build if name == family else build_loss)(name, **arguments)

    with monkeypatch.context() as patch:
        patch.setattr(certified_loss, "build_loss", builds)
        patch.setattr(certification, "RULES", rules)
        return [check for check in certify(family) if check.task == task]


@pytest.mark.parametrize(
    ("mutation", "family", "task", "rule"), MUTATIONS, ids=[f"{m.__name__}-{f}-{t}-{r}" for m, f, t, r in MUTATIONS]
)
def test_a_broken_family_is_caught(monkeypatch, mutation, family, task, rule):
    checks = certify_broken(monkeypatch, family, task, mutation, only=rule)
    assert rule in {check.name for check in checks if not check.passed}


def test_a_loss_that_raises_fails_every_check_that_calls_it_and_ends_nothing(monkeypatch):
    checks = certify_broken(monkeypatch, "tversky", "binary", Raising)
    assert all(not check.passed and "not on this machine" in check.detail for check in checks)
    assert len({check.name for check in checks}) >= 5


def test_the_bare_wrapper_is_not_caught(monkeypatch):
    """What is caught above is the mutation, not the wrapping."""
    checks = certify_broken(monkeypatch, "dice_ce", "binary", Wrapped)
    assert [f"{c.name} ({c.precision}): {c.detail}" for c in checks if not c.passed] == []


WEIGHED = [
    name
    for name, task in CASES
    if any(uses_frequencies(at, task) for at in Subject(name, task, "cpu", "float64").points().values())
]
"""Families that are another loss with other class frequencies, at some place where they are certified."""


@pytest.mark.parametrize("family", WEIGHED)
def test_the_first_class_taken_for_the_commonest_is_caught(monkeypatch, family):
    """A loss that takes class 0 for common, whatever the frequencies are, is caught."""
    assert len(WEIGHED) >= 5

    def build(name, *, class_frequencies, **arguments):
        counts = list(class_frequencies)
        most = counts.index(max(counts))
        counts[0], counts[most] = counts[most], counts[0]
        return build_loss(name, class_frequencies=counts, **arguments)

    rule = "renamed classes cost the same"
    checks = certify_broken(monkeypatch, family, "multiclass", build, only=rule)
    assert [check.name for check in checks if not check.passed] == [rule]
