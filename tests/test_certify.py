"""The certification passes for what is shipped, and catches a family that is broken in any of these ways."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from sweeper.cli import losses as cli_losses
from sweeper.cli.main import main
from sweeper.core.errors import UsageError
from sweeper.losses import FAMILIES, certification
from sweeper.losses.build import build_loss
from sweeper.losses.certification import (
    RULES,
    Check,
    certify,
    identities,
    option_values,
    references,
    relations,
    slow_relatives,
)
from sweeper.losses.certification.certified_loss import Subject
from sweeper.losses.families import LOSS_TASKS, Family
from tests.marks import in_thirds, rest_slow

CASES = [(name, task) for name, family in FAMILIES.items() for task in family.tasks]


@pytest.mark.parametrize(("family", "task"), in_thirds(CASES))
def test_what_is_shipped_is_certified(family, task):
    checks = certify("cpu", [family], [task])
    assert [f"{c.name} ({c.precision}): {c.detail}" for c in checks if not c.passed] == []
    assert {"float32", "bfloat16"} <= {c.precision for c in checks}
    assert all((c.family, c.task) == (family, task) and c.detail for c in checks)
    assert len({(c.name, c.precision) for c in checks}) == len(checks) >= 24


@pytest.mark.cuda
@pytest.mark.parametrize(("family", "task"), CASES)
def test_what_is_shipped_is_certified_on_a_gpu(family, task):
    checks = certify("cuda", [family], [task])
    assert [f"{c.name} ({c.precision}): {c.detail}" for c in checks if not c.passed] == []
    assert "float16" in {c.precision for c in checks}


def test_every_rule_is_tried_on_something():
    subjects = [Subject(family, task, "cpu", "float64") for family, task in CASES]
    assert [rule.name for rule in RULES if not any(rule.applies(subject) for subject in subjects)] == []
    assert len({rule.name for rule in RULES}) >= 40


@pytest.mark.parametrize(("family", "task"), CASES)
def test_every_family_equals_something_known(family, task):
    """A loss that is only stable and only has the right slope could still be another one."""
    general = {"mix goes in a straight line", "one label is the binary task", "options at rest change nothing"}
    subject = Subject(family, task, "cpu", "float64")
    rules = [rule for rule in (*identities.RULES, *relations.RULES) if rule.applies(subject)]
    assert {rule.name for rule in rules} - general


def test_every_option_of_every_family_is_tried_against_a_reference():
    """What `build_loss` takes for any family is known to the slow references, and tried away from rest."""
    assert set(slow_relatives.RELATIVES) == {name for name, family in FAMILIES.items() if family.relative}
    for family, task in CASES:
        subject = Subject(family, task, "cpu", "float64")
        assert references.known(subject), f"no slow reference of {family}, {task}, or no value in option_values.py"
        tried = {name for place in option_values.variants(subject).values() for name in place}
        assert tried >= {*subject.entry.coordinates[task], *subject.entry.options(task)}, (family, task)


def test_a_check_is_repeatable_and_round_trips():
    first, second = certify("cpu", ["dice"], ["binary"]), certify("cpu", ["dice"], ["binary"])
    assert first == second
    assert [Check.model_validate_json(c.model_dump_json()) for c in first] == first


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("cpu", ["dcie"]), "did you mean `dice`"),
        (("cpu", None, ["binry"]), "did you mean `binary`"),
        pytest.param(
            ("cuda",), "no GPU", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is present")
        ),
    ],
)
def test_what_cannot_be_certified_is_refused(arguments, words):
    with pytest.raises(UsageError, match=words):
        certify(*arguments)


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


class WrongSign(Wrapped):
    def forward(self, logits, target):
        return -self.true(logits, target)


class WrongGradientSign(Wrapped):
    """The right value with the slope turned round."""

    def forward(self, logits, target):
        value = self.true(logits, target)
        return 2 * value.detach() - value


class DetachedPart(Wrapped):
    """The right value; the slope misses a part, as when a weight is detached that should not be."""

    def forward(self, logits, target):
        value = self.true(logits, target)
        return value.sqrt().detach() * value.clamp(min=1e-20).sqrt()


class IgnoreLeak(Wrapped):
    """Ignored pixels count as the first class."""

    def forward(self, logits, target):
        return self.true(logits, torch.where(self.labelled(target), target, 0))


class MaskedByProduct(Wrapped):
    """Ignored pixels are multiplied by 0, which keeps NaN and infinity."""

    def forward(self, logits, target):
        mask = self.labelled(target)
        return self.true(logits * (mask if mask.ndim == logits.ndim else mask.unsqueeze(1)), target) + 0 * logits.sum()


class AveragedOverIgnored(Wrapped):
    def forward(self, logits, target):
        return self.true(logits, target) * self.labelled(target).double().mean().to(logits.dtype)


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
        each = F.binary_cross_entropy_with_logits(
            z.float() if z.dtype.itemsize < 4 else z,
            own.to(z.dtype).float() if z.dtype.itemsize < 4 else own.to(z.dtype),
            reduction="none",
        )
        return (each * labelled).sum() / labelled.sum().clamp(min=1)


class LowPrecision(Wrapped):
    """Computed in the precision of the logits."""

    def forward(self, logits, target):
        return self.true(logits, target).to(logits.dtype).to(torch.promote_types(logits.dtype, torch.float32))


class AbsentIsFree(Wrapped):
    """As the libraries have it: no loss where there is no foreground."""

    def forward(self, logits, target):
        return torch.where((target == 1).any(), self.true(logits, target), 0 * self.true(logits, target))


class Unsteady(Wrapped):
    """Drops pixels at random."""

    def forward(self, logits, target):
        return self.true(logits, target) * (1 + 1e-3 * torch.rand(()).to(logits.device))


class Overwriting(Wrapped):
    def forward(self, logits, target):
        value = self.true(logits, target)
        target.masked_fill_(target == self.ignore_index, 0)
        return value


class CannotTravel(Wrapped):
    def __getstate__(self):
        raise pickle.PicklingError("holds a generator")


class Positional(Wrapped):
    """The first column counts more."""

    def forward(self, logits, target):
        rest = torch.where(torch.arange(target.shape[-1], device=target.device) < 1, target, self.ignore_index)
        return self.true(logits, target) + 0.1 * self.true(logits, rest)


class Synchronising(Wrapped):
    def forward(self, logits, target):
        if not bool(self.labelled(target).any()):
            return 0.0 * torch.nan_to_num(logits).sum().to(torch.promote_types(logits.dtype, torch.float32))
        return self.true(logits, target)


class SlopeWithoutHistory(torch.autograd.Function):
    """Hands the slope on as a number: once differentiable, and silent about it."""

    @staticmethod
    def forward(ctx, logits, value, slope):
        ctx.slope = slope
        return value

    @staticmethod
    def backward(ctx, given):
        return ctx.slope * given, None, None


class OnceDifferentiable(Wrapped):
    def forward(self, logits, target):
        if not logits.requires_grad:
            return self.true(logits, target)
        value = self.true(logits, target)
        (slope,) = torch.autograd.grad(value, logits)
        return SlopeWithoutHistory.apply(logits, value.detach(), slope)


class AssumesContiguousMemory(Wrapped):
    """Reads the memory of the logits in the order in which it lies, as a kernel without strides does."""

    def forward(self, logits, target):
        dense = all(logits.stride()) and logits.untyped_storage().size() == logits.numel() * logits.element_size()
        read = logits.as_strided(logits.shape, torch.empty(logits.shape).stride()) if dense else logits
        return self.true(read, target)


class HidesNan(Wrapped):
    def forward(self, logits, target):
        return torch.nan_to_num(self.true(logits, target))


class Raising(Wrapped):
    def forward(self, logits, target):
        raise RuntimeError("not on this machine")


MUTATIONS = [
    (WrongSign, "cross_entropy", "binary", "descent recovers the mask"),
    (WrongSign, "dice", "multiclass", "a perfect prediction costs least"),
    (WrongGradientSign, "dice_ce", "binary", "its slope agrees with finite differences"),
    (WrongGradientSign, "lovasz", "multiclass", "descent recovers the mask"),
    (DetachedPart, "tversky", "multiclass", "its slope agrees with finite differences"),
    (IgnoreLeak, "dice", "binary", "ignored pixels change nothing"),
    (IgnoreLeak, "cross_entropy", "multiclass", "a batch without labels costs nothing"),
    (MaskedByProduct, "focal", "binary", "ignored pixels change nothing"),
    (AveragedOverIgnored, "cross_entropy", "multiclass", "ignored rows are as good as cut off"),
    (AveragedOverIgnored, "cross_entropy", "binary", "equals torch's cross-entropy"),
    (NanAtExtremes, "dice", "binary", "extreme inputs stay finite"),
    (Sigmoids, "focal", "multiclass", "a constant on all softmax logits changes nothing"),
    (Sigmoids, "focal", "multiclass", "is the softmax form of focal"),
    (LowPrecision, "dice", "multiclass", "half precision is computed in float32"),
    (AbsentIsFree, "dice", "binary", "false positives of an absent class cost something"),
    (Unsteady, "cross_entropy", "binary", "the same twice"),
    (Overwriting, "dice_focal", "multiclass", "its inputs are left alone"),
    (CannotTravel, "jaccard", "binary", "it pickles"),
    (Positional, "cross_entropy", "binary", "the order of pixels does not matter"),
    (Positional, "soft_cldice", "binary", "the order of images, mirrors and turns do not matter"),
    (Synchronising, "focal", "binary", "it never waits for the device"),
    (AssumesContiguousMemory, "dice_ce", "binary", "memory layout does not matter"),
    (OnceDifferentiable, "focal", "binary", "second derivatives agree with finite differences"),
    (OnceDifferentiable, "dice", "multiclass", "second derivatives agree with finite differences"),
    (HidesNan, "dice_ce", "multiclass", "a NaN shows"),
]


def certify_broken(monkeypatch, family: str, task: str, build, only: str | None = None) -> list[Check]:
    """Certify with `build` in the place of the family's own; the entry is otherwise the same.

    Args:
        only: the rule that is asked for; None = all.
    """
    true = FAMILIES[family]
    rules = tuple(rule for rule in RULES if only in (None, rule.name))

    def through_the_true_one(**arguments):
        """Builds inside see the true family, so that a mutation can wrap it."""
        with monkeypatch.context() as inner:
            inner.setitem(FAMILIES, family, true)
            return build(family, **arguments)

    broken = true.model_copy(update={"build": through_the_true_one})
    with monkeypatch.context() as patch:
        patch.setitem(FAMILIES, family, broken)
        patch.setattr(certification, "RULES", rules)
        return certify("cpu", [family], [task])


@pytest.mark.parametrize(
    ("mutation", "family", "task", "rule"), MUTATIONS, ids=[f"{m.__name__}-{f}-{t}-{r}" for m, f, t, r in MUTATIONS]
)
def test_a_broken_family_is_caught(monkeypatch, mutation, family, task, rule):
    checks = certify_broken(monkeypatch, family, task, mutation, only=rule)
    assert rule in {check.name for check in checks if not check.passed}


def test_a_loss_that_raises_fails_every_check_that_calls_it_and_ends_nothing(monkeypatch):
    checks = certify_broken(monkeypatch, "tversky", "binary", Raising)
    assert {"it pickles", "descent recovers the mask"} <= {check.name for check in checks if not check.passed}
    assert len({check.name for check in checks}) >= 24


@pytest.mark.parametrize(("family", "task"), [("dice_ce", "binary"), ("focal", "multiclass"), ("dice", "multilabel")])
def test_the_bare_wrapper_is_not_caught(monkeypatch, family, task):
    """What is caught above is the mutation, not the wrapping."""
    checks = certify_broken(monkeypatch, family, task, Wrapped)
    assert [f"{c.name} ({c.precision}): {c.detail}" for c in checks if not c.passed] == []


COORDINATE_FAULTS = [
    ("focal", "binary", "alpha favours the foreground", lambda given: {**given, "alpha": 1 - given.get("alpha", 0.5)}),
    ("focal", "multiclass", "alpha favours the foreground", lambda g: {**g, "alpha": 1 - g.get("alpha", 0.5)}),
    ("focal", "binary", "equals torchvision's focal loss", lambda g: {**g, "gamma": g["gamma"] / 2}),
    ("focal", "multiclass", "gamma quietens easy pixels", lambda g: {**g, "gamma": 0.0}),
    ("weighted_ce", "binary", "pos_weight favours the foreground", lambda g: {"pos_weight": 1 / g["pos_weight"]}),
    (
        "weighted_ce",
        "multiclass",
        "class_weight_power favours rare classes",
        lambda g: {"class_weight_power": 1 - g["class_weight_power"]},
    ),
    (
        "tversky",
        "binary",
        "fn_weight favours the foreground",
        lambda g: {**g, "fn_weight": g.get("fp_weight", 1 - g["fn_weight"]), "fp_weight": g["fn_weight"]},
    ),
    ("tversky", "binary", "is the Tversky formula", lambda g: {**g, "fn_weight": 0.5, "fp_weight": 0.5}),
    ("focal_tversky", "binary", "κ = 1 is Tversky", lambda g: {**g, "overlap_exponent": 0.75}),
    ("dice_ce", "multiclass", "mix = 0 is Dice", lambda g: {**g, "mix": 1 - g["mix"]}),
    ("dice_ce", "binary", "mix goes in a straight line", lambda g: {**g, "mix": g["mix"] ** 2}),
    ("topk_ce", "binary", "hard_fraction keeps the hardest", lambda g: {"hard_fraction": 1.0}),
    ("boundary_ce", "multiclass", "boundary_weight raises boundaries", lambda g: {"boundary_weight": 0.0}),
]


@pytest.mark.parametrize(
    ("family", "task", "rule", "change"), COORDINATE_FAULTS, ids=[f"{f}-{t}-{r}" for f, t, r, _ in COORDINATE_FAULTS]
)
def test_a_coordinate_on_the_wrong_side_is_caught(monkeypatch, family, task, rule, change):
    fixed = ("task", "ignore_index", "class_frequencies")

    def build(name, **arguments):
        given = {n: v for n, v in arguments.items() if n not in fixed}
        return build_loss(name, **{n: arguments[n] for n in fixed}, **change(given))

    checks = certify_broken(monkeypatch, family, task, build, only=rule)
    assert rule in {check.name for check in checks if not check.passed}


def test_per_class_exponent_of_the_mean_is_caught(monkeypatch):
    """The exponent on the mean over classes, as segmentation-models-pytorch has it."""

    class OnTheMean(torch.nn.Module):
        def __init__(self, true, exponent):
            super().__init__()
            self.true, self.exponent = true, exponent

        def forward(self, logits, target):
            return self.true(logits, target) ** self.exponent

    def build(name, *, overlap_exponent, **arguments):
        return OnTheMean(build_loss(name, overlap_exponent=1.0, **arguments), overlap_exponent)

    rule = "κ acts on each class's 1 − TI"
    checks = certify_broken(monkeypatch, "focal_tversky", "multiclass", build, only=rule)
    assert rule in {check.name for check in checks if not check.passed}


# --- The command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def sweeper(monkeypatch, capfd):
    """Runs the command line; gives (status, stdout, stderr)."""

    def run(*arguments: str, columns: int = 80) -> tuple[int, str, str]:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setattr(sys, "argv", ["sweeper", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capfd.readouterr()
        return int(caught.value.code or 0), out, err

    return run


@pytest.fixture
def two_families(monkeypatch):
    """Only two families, for two tasks and for one, so that the command is quick."""
    tasks = {"cross_entropy": ("binary", "multiclass"), "dice": ("binary",)}
    few = {
        name: FAMILIES[name].model_copy(update={"coordinates": {t: FAMILIES[name].coordinates[t] for t in kept}})
        for name, kept in tasks.items()
    }
    monkeypatch.setattr(cli_losses, "FAMILIES", few)
    for name, family in few.items():
        monkeypatch.setitem(FAMILIES, name, family)
    return few


@pytest.mark.parametrize("columns", rest_slow([80, 120]))
def test_the_command_proves_the_losses(sweeper, two_families, columns):
    status, out, err = sweeper("losses", "--certify", columns=columns)
    assert (status, err) == (0, "")
    assert all(len(line) <= columns for line in out.splitlines())
    rows = [line.split() for line in out.splitlines() if line.strip().startswith(("cross_entropy", "dice"))]
    assert len(rows) == sum(len(family.tasks) for family in two_families.values())
    assert all(row[2].split("/")[0] == row[2].split("/")[1] and row[3] == "none" for row in rows)
    assert "checks passed on cpu" in " ".join(out.split())


def test_the_command_fails_and_names_the_check_of_a_broken_family(sweeper, two_families, monkeypatch):
    true = FAMILIES["dice"]

    def broken(**arguments):
        with monkeypatch.context() as inner:
            inner.setitem(FAMILIES, "dice", true)
            return WrongSign("dice", **arguments)

    monkeypatch.setitem(FAMILIES, "dice", true.model_copy(update={"build": broken}))
    status, out, _ = sweeper("losses", "--certify")
    assert status == 1
    assert "descent recovers the mask" in " ".join(out.split())
    assert "FAILED" in out
    status, out, _ = sweeper("losses", "--certify", "--json")
    assert status == 1
    assert json.loads(out)["passed"] is False


@pytest.mark.slow
def test_json_has_every_check(sweeper, two_families):
    status, out, err = sweeper("losses", "--certify", "--json")
    assert (status, err) == (0, "")
    document = json.loads(out)
    assert (document["device"], document["passed"]) == ("cpu", True)
    checks = [Check.model_validate(check) for check in document["checks"]]
    assert checks == certify("cpu", two_families)


def test_device_without_certify_is_refused(sweeper):
    status, out, err = sweeper("losses", "--device", "cpu")
    assert (status, out) == (2, "")
    assert "--device must go with --certify" in err


def test_the_registry_covers_all_tasks_it_declares():
    assert all(set(family.tasks) <= set(LOSS_TASKS) and family.tasks for family in FAMILIES.values())
    assert all(isinstance(family, Family) for family in FAMILIES.values())


def test_listing_and_documenting_the_losses_load_no_torch():
    code = "import sys, sweeper.cli.losses, sweeper.losses.docs_page; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
