"""`--loss module:function`: a loss of the user is a further family, from its declaration to the pasted code."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from sweeper.cli.run import command
from sweeper.core.errors import SpaceError, StudyError, UsageError
from sweeper.core.own_code import find_code
from sweeper.core.records import Conditions, Dataset, UserLoss
from sweeper.losses import FAMILIES, build_loss, make_snippet
from sweeper.losses.own_loss_module import check_own_loss
from sweeper.losses.own_losses import OWN
from sweeper.scripts.loss_file import make_loss_text
from sweeper.space import get_default_params, load_space
from sweeper.storage import list_plan_differences
from sweeper.storage.results import format_run_command
from sweeper.study.same_loss import EquivalenceQuestion, measure_loss_distances
from sweeper.training.worker import check_model
from sweeper.workflow import own_losses
from sweeper.workflow.options import list_stored_options
from sweeper.workflow.own_losses import add_user_losses, declare_loss
from sweeper.workflow.request_checks import check_request
from sweeper.workflow.settings import Settings
from tests.support.faking import new_plan
from tests.support.own_modules import own_module
from tests.support.pasting import run_text
from tests.support.small_training import SMALL, train
from tests.support.sweeping import run_small_sweep

Sweeper = Callable[..., tuple[int, str, str]]
LOSSES = """
import torch
from torch import nn

class SoftIoU(nn.Module):
    search = {"power": (0.5, 2.0), "smooth": {"log": [0.1, 10]}}

    def __init__(self, task, power=1.0, smooth=1.0, ignore_index=255):
        super().__init__()
        self.task, self.power, self.smooth, self.ignore = task, power, smooth, ignore_index

    def forward(self, logits, target):
        known = (target != self.ignore).float().unsqueeze(1)
        if self.task == "binary":
            shares, truth = logits.sigmoid(), (target == 1).float().unsqueeze(1)
        else:
            classes = torch.arange(logits.shape[1]).view(1, -1, 1, 1)
            shares, truth = logits.softmax(1), (target.unsqueeze(1) == classes).float()
        both = (known * shares * truth).sum()
        either = (known * (shares + truth - shares * truth)).sum()
        return (1 - (both + self.smooth) / (either + self.smooth)) ** self.power

def function(power=1.0):
    return SoftIoU("binary", power)
function.search = {"power": {"uniform": [1, 3]}}

def plain():
    return lambda logits, target: logits.float().square().mean()
def image_wise(task):
    inner = SoftIoU(task)
    return lambda logits, target: torch.stack([inner(a[None], b[None]) for a, b in zip(logits, target)])
def detached():
    return lambda logits, target: logits.detach().mean()
def infinite():
    return lambda logits, target: (logits * 0).sum() / 0
def labels_only():
    return nn.BCEWithLogitsLoss()
def fails(power=1.0):
    raise ValueError("not today")
def nothing():
    return None
class Learns(SoftIoU):
    search = {}
    def __init__(self, task):
        super().__init__(task)
        self.factor = nn.Parameter(torch.ones(()))
    def forward(self, logits, target):
        return self.factor * super().forward(logits, target)

def unknown(power=1.0): ...
unknown.search = {"gamma": (0, 1), "power": (2, 1)}
def outside(power=5.0): ...
outside.search = {"power": (0, 1)}
def needed(power, other): ...
needed.search = {"power": (0, 1)}
def itself(prediction, mask): return nn.functional.binary_cross_entropy_with_logits(prediction[:, 0], mask.float())
made = nn.BCEWithLogitsLoss()
def text(power=1.0): ...
text.search = "power"
def dice(power=1.0): ...
"""
SPACE = "{version: 1, task: binary, nuisance: {lr: {log: [0.01, 0.02]}}, losses: {%s}}"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield a module of losses in the working folder; its losses are unregistered afterwards."""
    with own_module("own_losses_here", LOSSES, tmp_path, monkeypatch) as name:
        yield name
    for name in list(OWN):
        del OWN[name], FAMILIES[name]
    own_losses.read_declaration.cache_clear()


def test_a_declared_loss_becomes_a_family_of_the_space(module: str) -> None:
    before = list(FAMILIES)
    declaration = declare_loss(f"{module}:SoftIoU")
    assert declaration.takes == ("task", "ignore_index") and declaration.starts == {"power": 1.0, "smooth": 1.0}
    assert list(FAMILIES) == [*before, "SoftIoU"]
    space = add_user_losses(load_space("binary"), (declaration,))
    assert space.families[-1].family == "SoftIoU" and space.families[-1].coordinates["smooth"].kind == "log"
    first = get_default_params(space.families[-1], space)
    assert (first["SoftIoU.power"], first["SoftIoU.smooth"]) == (1.0, 1.0)
    assert add_user_losses(space, (declaration,)) == space
    assert declare_loss(f"{module}:function").coordinates["power"].high == 3


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("unknown", ["search.gamma: must be an argument of unknown", "search.power: low must be below high"]),
        ("outside", ["the argument's default must be a number in the range, got 5.0"]),
        ("needed", ["other: must have a default or a range"]),
        ("itself", ["takes prediction and mask; name a function that returns it: `def make(): return itself`"]),
        ("made", ["found one that is made (BCEWithLogitsLoss); name its class"]),
        ("text", ["search: must be a dict"]),
        ("dice", ["dice is the name of a loss of sweeper's"]),
    ],
)
def test_all_faults_of_a_declaration_are_listed_at_once(module: str, name: str, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        declare_loss(f"{module}:{name}")
    assert all(word in str(caught.value) for word in words) and name not in OWN


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("plain", "have no label (255) they must not count"),
        ("image_wise", "shape '[]' is invalid for input of size 2"),
        ("detached", "does not require grad"),
        ("infinite", "it and its gradient must be finite, got nan"),
        ("labels_only", "must give a number with a gradient, and failed: ValueError"),
        ("fails", "must give a loss, and failed: ValueError: not today"),
        ("nothing", "'NoneType' object is not callable"),
        ("Learns", "must have no weights"),
    ],
)
def test_a_loss_that_cannot_be_trained_with_is_refused(module: str, name: str, words: str) -> None:
    declaration = declare_loss(f"{module}:{name}")
    with pytest.raises(UsageError) as caught:
        check_own_loss(declaration, "binary", 2)
    assert words in str(caught.value) and f"--loss {module}:{name}" in str(caught.value)


def test_a_sound_loss_passes_and_faults_of_network_and_loss_are_reported_together(
    module: str, tiny: Dataset, tmp_path: Path
) -> None:
    declaration = declare_loss(f"{module}:SoftIoU")
    check_own_loss(declaration, "binary", 2)
    check_own_loss(declaration, "multiclass", 5)
    (tmp_path / "own_nets_too.py").write_text("def build(in_channels, classes): return 3\n")
    code = find_code("own_nets_too:build", "--model")
    recipe = SMALL.model_copy(update={"model": code, "arch": code.name, "encoder": "", "encoder_depth": 5})
    wrong = declare_loss(f"{module}:plain")
    with pytest.raises(UsageError) as caught:
        check_model(Conditions(dataset=tiny, recipe=recipe, seed=0, losses=(declaration, wrong)))
    assert "no torch.nn.Module" in str(caught.value) and "plain cannot be trained with" in str(caught.value)


def test_the_pasted_code_of_an_own_loss_equals_the_trained_loss(module: str, tiny: Dataset) -> None:
    declare_loss(f"{module}:SoftIoU")
    params = {"power": 1.5, "smooth": 0.5}
    result = train(tiny, family="SoftIoU", params=params, steps=4)
    assert result.state == "complete" and result.value is not None
    text = make_snippet("SoftIoU", params, "binary", ("background", "crack"), [9.0, 1.0], point=0.4)
    assert "from own_losses_here import SoftIoU\n" in text and not re.search(
        "^(from|import) sweeper", text, re.MULTILINE
    )
    names = run_text(text)
    logits, target = torch.randn(2, 1, 8, 8), torch.randint(0, 2, (2, 8, 8))
    ours = build_loss("SoftIoU", task="binary", class_frequencies=[9.0, 1.0], **params)
    assert torch.equal(names["criterion"](logits, target), ours(logits, target))
    text = make_loss_text("SoftIoU", params, "binary", [9.0, 1.0])
    assert f"needs torch and your module {OWN['SoftIoU'].code.module};" in text
    of_script = run_text(text)
    assert torch.equal(of_script["criterion"](logits, target), ours(logits, target))
    assert ours(logits.bfloat16(), target).dtype == torch.float32


def test_an_own_loss_is_compared_with_others_and_a_resume_compares_its_source(
    module: str, tiny: Dataset, tmp_path: Path
) -> None:
    declaration = declare_loss(f"{module}:SoftIoU")
    conditions = Conditions(dataset=tiny, recipe=SMALL, seed=0, losses=(declaration,))
    same, other = measure_loss_distances(
        [
            EquivalenceQuestion(0, "SoftIoU", {"power": 1.0, "smooth": 1.0}, "SoftIoU", {"power": 1.0, "smooth": 1.0}),
            EquivalenceQuestion(0, "SoftIoU", {"power": 1.0, "smooth": 1.0}, "cross_entropy", {}),
        ],
        conditions,
    )
    assert same == 0 and other > 0.1
    plan = new_plan(conditions=conditions)
    (tmp_path / f"{module}.py").write_text(LOSSES + "\n# another\n")
    changed = UserLoss(**{**dict(declaration), "code": find_code(f"{module}:SoftIoU", "--loss")})
    again = plan.model_copy(update={"conditions": conditions.model_copy(update={"losses": (changed,)})})
    (line,) = list_plan_differences(plan, again)
    assert line.startswith(f"SHA-256 of the source of {module}:SoftIoU: ")
    assert not list_plan_differences(plan, plan)


def test_several_losses_are_searched_if_their_names_differ(module: str) -> None:
    losses = (f"{module}:SoftIoU", f"{module}:function")
    words = [word for loss in losses for word in ("--loss", loss)]
    parsed = command.make_context("run", ["data", *words]).params
    assert parsed["loss"] == losses
    stored = list_stored_options(Settings(data="data", loss=losses))
    assert shlex.split(format_run_command(stored, "data")) == ["sweeper", "run", "data", *words]
    check_request(None, Settings(loss=losses))
    assert Settings(loss=losses[0]).loss == losses[:1]
    with pytest.raises(UsageError, match="different names"):
        check_request(None, Settings(loss=(losses[0], losses[0])))


def test_a_space_declares_an_own_loss_with_ranges_of_its_own(module: str, tmp_path: Path) -> None:
    name = f"{module}:SoftIoU"
    (tmp_path / "space.yaml").write_text(SPACE % f"{name}: {{power: 3.5}}")
    request = Settings(space="space.yaml")
    assert check_request(None, request).loss == (name,) == check_request(None, Settings(loss=name)).loss
    (family,) = add_user_losses(load_space("space.yaml"), (OWN["SoftIoU"],)).families
    assert (family.coordinates["power"].low, family.coordinates["smooth"].high) == (3.5, 10)
    (tmp_path / "space.yaml").write_text(SPACE % f"{name}: {{powr: 3.5}}")
    with pytest.raises(SpaceError, match=f"'{name}'.powr: not a hyper-parameter of SoftIoU .* did you mean `power`"):
        check_request(None, request)


def test_a_study_with_an_own_loss_and_an_own_present_one_is_resumed_without_naming_them(
    module: str, tmp_path: Path
) -> None:
    loss, present = f"{module}:function", f"{module}:SoftIoU"
    begun = run_small_sweep(tmp_path, loss=loss, present=present, trials=2)
    assert begun.sweep.machine["workers"] == 0  # which a resume keeps
    for again in ({}, {"present": present}, {"loss": loss}):
        outcome = run_small_sweep(tmp_path, resume=True, trials=2, **again)
        assert [one.code.name for one in outcome.sweep.conditions.losses] == [loss, present]
        assert outcome.document.present == "SoftIoU"


@pytest.mark.slow
def test_a_sweep_in_workers_searches_and_reports_an_own_loss(module: str, sweeper: Sweeper, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(SPACE % f"{module}:SoftIoU: {{power: 1.5}}, dice: {{}}")
    run_small_sweep(tmp_path, space="space.yaml", present=f"{module}:SoftIoU", workers=1, trials=3)
    outcome = run_small_sweep(tmp_path, resume=True, space="space.yaml", workers=1, trials=4)
    assert outcome.document.present == "SoftIoU"
    tried = {trial.spec.family: trial.spec.params for trial in outcome.sweep.trials}
    assert set(tried["SoftIoU"]) == {"power", "smooth"} and tried["SoftIoU"]["power"] == 1.5 and "dice" in tried
    assert len(outcome.sweep.trials) == 4 and outcome.sweep.conditions.losses[0].name == "SoftIoU"
    assert all(trial.state != "failed" for trial in outcome.sweep.trials)
    assert "SoftIoU" in outcome.paths.markdown.read_text("utf-8")
    for name in list(OWN):  # as in a new process
        del OWN[name], FAMILIES[name]
    status, out, err = sweeper("report", "study", "--storage", f"sqlite:///{tmp_path}/sweeper.db", "--json")
    assert status == 0 and "SoftIoU" in json.loads(out)["search"]["per_family"], err
    (tmp_path / f"{module}.py").write_text(LOSSES + "\n# another\n")
    with pytest.raises(StudyError, match=f"SHA-256 of the source of {module}:SoftIoU"):
        run_small_sweep(tmp_path, resume=True, workers=1, trials=5)
