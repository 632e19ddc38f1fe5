"""A family's declaration decides everywhere what its coordinates are; their names decide nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
import yaml

from sweeper.core.errors import SpaceError
from sweeper.core.records import Conditions, Task
from sweeper.fingerprint.ledger import AdvisedLoss, LedgerRow, compute_features, make_weight_parameters
from sweeper.losses import FAMILIES, LossCoordinate, LossFamily, build_loss, make_snippet, other_losses
from sweeper.losses.family_records import CLASS_WEIGHT_POWER, FN_WEIGHT, GAMMA, POS_WEIGHT, ValueLimits
from sweeper.losses.other_losses import LossBatch
from sweeper.scripts.loss_file import make_loss_text
from sweeper.space import get_default_params, load_space, suggest_choice
from sweeper.study.same_loss import EquivalenceQuestion, find_equivalent_losses
from sweeper.workflow import advice
from tests.support import builders
from tests.support.loss_cases import FREQUENCIES, draw_batch
from tests.support.pasting import run_text

WORDS = {"title": "Odd", "helps": "Never.", "caveat": "Odd.", "source": "none", "formula": "odd"}
ODD = LossFamily(
    name="odd",
    coordinates={
        "binary": {"oomph": POS_WEIGHT, "zing": GAMMA},
        "multiclass": {"oomph": CLASS_WEIGHT_POWER, "zing": GAMMA},
    },
    **WORDS,
)
"""Focal with a class weight: a point of the kernel that no shipped family reaches."""
OUTSIDE = LossFamily(
    name="outside",
    module="other_losses",
    coordinates={
        "multiclass": {"gamma": LossCoordinate(default=2.0, frequencies="used", limits=ValueLimits(0, 9), meaning="x")}
    },
    **WORDS,
)
"""Outside the kernel: its coordinate has the name of one that needs no frequencies."""


@pytest.fixture(autouse=True)
def odd_families(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the families for one test."""

    def outside(batch: LossBatch, *, gamma: float) -> torch.Tensor:
        assert batch.class_frequencies is not None
        return gamma * batch.logits.mean() * max(batch.class_frequencies)

    monkeypatch.setitem(FAMILIES, "odd", ODD)
    monkeypatch.setitem(FAMILIES, "outside", OUTSIDE)
    monkeypatch.setattr(other_losses, "outside", outside, raising=False)


@pytest.mark.parametrize(
    ("task", "params", "family", "same"),
    [
        ("binary", {"oomph": 7.0, "zing": 0.0}, "weighted_ce", {"pos_weight": 7.0}),
        ("binary", {"oomph": 1.0, "zing": 2.5}, "focal", {"alpha": None, "gamma": 2.5}),
        ("multiclass", {"oomph": 0.8, "zing": 0.0}, "weighted_ce", {"class_weight_power": 0.8}),
    ],
)
def test_loss_snippet_and_loss_file_are_those_of_the_declared_roles(
    task: Task, params: dict[str, float], family: str, same: dict[str, Any]
) -> None:
    logits, target = draw_batch(task)
    frequencies = FREQUENCIES if task == "multiclass" else (0.9, 0.1)
    expected = build_loss(family, task=task, class_frequencies=frequencies, **same)(logits, target)
    assert torch.equal(build_loss("odd", task=task, class_frequencies=frequencies, **params)(logits, target), expected)
    classes = ["a", "b", "c"][: len(frequencies)]
    snippet = make_snippet("odd", params, task, classes, frequencies)
    assert "# oomph: " in snippet and ("class_frequencies=" in snippet) == (task == "multiclass")
    for text in (snippet, make_loss_text("odd", params, task, frequencies)):
        torch.testing.assert_close(run_text(text)["criterion"](logits, target), expected)


def test_frequencies_are_required_and_reach_the_loss_where_a_coordinate_declares_it() -> None:
    with pytest.raises(ValueError, match="`oomph` needs `class_frequencies`"):
        build_loss("odd", task="multiclass")
    assert build_loss("odd", task="multiclass", oomph=0.0)  # off
    logits, target = draw_batch("multiclass")
    outside = build_loss("outside", task="multiclass", class_frequencies=FREQUENCIES)
    torch.testing.assert_close(outside(logits, target), 2 * 0.6 * logits.mean())
    assert "class_frequencies=" in make_snippet("outside", {"gamma": 2.0}, "multiclass", ["a", "b", "c"], FREQUENCIES)


def test_the_space_checks_and_suggests_by_the_declaration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pair = {"first": FN_WEIGHT, "second": FN_WEIGHT.model_copy(update={"role": "fp_weight", "default": None})}
    tversky = LossFamily(name="pair", fixed={"mix": 0.0}, coordinates={"binary": pair}, **WORDS)
    monkeypatch.setitem(FAMILIES, "pair", tversky)
    content = {
        "version": 1,
        "task": "binary",
        "nuisance": {"lr": 0.01},
        "losses": {
            "odd": {"oomph": {"power_of_imbalance": [0, 1]}},
            "pair": {"first": {"uniform": [0, 1]}, "second": {"uniform": [0, 1]}},
        },
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(SpaceError, match=r"^1 problem [\s\S]*- losses\.pair: the weights of false negatives and false"):
        load_space(str(path), "binary")
    del content["losses"]["pair"]  # type: ignore[attr-defined]
    path.write_text(yaml.safe_dump(content))
    space = load_space(str(path), "binary")
    assert get_default_params(space.families[0], space) == {"loss": "odd", "odd.oomph_power": 1.0}
    choice = suggest_choice(optuna.trial.FixedTrial({"loss": "odd", "odd.oomph_power": 0.5}), space, 25.0)
    assert choice.params == {"oomph": 5.0}


def test_the_same_loss_is_found_by_roles_and_neutral_values() -> None:
    space = load_space("binary", "binary")
    odd = space.families[1].model_copy(update={"family": "odd", "coordinates": {}})
    space = space.model_copy(update={"families": (*space.families, odd)})
    asked = list[EquivalenceQuestion]()

    def measure(questions: Sequence[EquivalenceQuestion], conditions: Conditions) -> list[float]:
        asked.extend(questions)
        return [1.0] * len(questions)

    trial = builders.trial("odd", 0.6, spec=builders.spec("odd", params={"oomph": 3.0, "zing": 1.5}))
    find_equivalent_losses([trial], space, builders.conditions(), measure)
    params = {question.is_family: question.is_params for question in asked}
    assert params["weighted_ce"] == {"pos_weight": 3.0} and params["focal"] == {"gamma": 1.5, "alpha": 0.5}


@pytest.mark.parametrize(
    ("task", "name"), [("binary", "odd.oomph_power"), ("multiclass", "odd.oomph")], ids=["binary", "multiclass"]
)
def test_advice_sets_the_weight_of_rare_classes(
    task: Task, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    content = {"oomph": {"power_of_imbalance": [0, 1]} if task == "binary" else {"uniform": [0, 1]}}
    text = {"version": 1, "task": task, "nuisance": {"lr": 0.01}, "losses": {"odd": content}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(text))
    space = load_space(str(tmp_path / "mine.yaml"), task)
    profile = builders.profile()
    row = {"generator": "g", "task": task, "family": "odd", "lr": 0.01, "steps": 9, "params": "power=0.25"}
    row |= {"score": 0.5, "gain": 0.1, "low": 0.1, "high": 0.1}
    features = compute_features(profile)
    rows = tuple(
        LedgerRow(point=str(at), **row, **{name: value + at for name, value in features.items()}) for at in range(3)
    )
    monkeypatch.setattr(advice, "read_ledger", lambda: rows)
    assert [start.params for start in advice.add_advice(space, profile, 16.0).starts] == [{name: 0.25}]
    unknown = dict.fromkeys(("gain", "lowest", "highest"))
    advised = AdvisedLoss(family="odd", params={"power": 0.25}, lr=0.01, sets=1, least=1.0, most=1.0, **unknown)
    assert make_weight_parameters(advised, task, 16.0) == {"oomph": 2.0 if task == "binary" else 0.25}
