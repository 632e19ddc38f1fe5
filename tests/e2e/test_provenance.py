"""Each training has the device and the versions that trained it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sweeper.core.records import Dataset, TrainedBy, list_trainers
from sweeper.report.tables import make_trials_frame
from sweeper.tracking.values import RunValues
from sweeper.training import engine, network_in_training
from sweeper.training.engine import StudyTraining
from sweeper.training.training_context import open_context
from sweeper.version import read_versions
from sweeper.workflow.conclude import draw_conclusion, make_document
from tests.support import builders

OLD, NEW = {"torch": "2.11"}, {"torch": "2.12"}


def test_a_continued_training_has_the_versions_that_trained_its_steps(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conditions = builders.conditions(tiny, size=32, batch_size=2, steps=8, encoder_depth=3)
    spec = builders.spec("dice", steps=8, params={})
    context = open_context(conditions, "cpu")
    whole = StudyTraining(spec, context)
    whole.advance()
    assert whole.make_result("pruned").versions == read_versions() and whole.make_result("pruned").earlier == ()
    for module in (network_in_training, engine):
        monkeypatch.setattr(module, "read_versions", lambda: OLD)
    first = StudyTraining(spec, context)
    first.advance()
    first.save(tmp_path / "pause.pt")
    step = first.make_result("pruned").evaluations[-1].step
    same = StudyTraining(spec, context, checkpoint=tmp_path / "pause.pt")
    same.advance()
    assert same.make_result("pruned").earlier == ()
    for module in (network_in_training, engine):
        monkeypatch.setattr(module, "read_versions", lambda: NEW)
    other = StudyTraining(spec, context, checkpoint=tmp_path / "pause.pt")
    other.advance()
    result = other.make_result("pruned")
    assert result.versions == NEW
    assert result.earlier == (TrainedBy(device=result.device, versions=OLD, step=step),)


def make_mixed_trials() -> tuple[object, ...]:
    earlier = TrainedBy(device="cpu, 1 thread", versions=OLD, step=2)
    return (
        builders.trial("dice", 0.6, 0),
        builders.trial("focal", 0.6, 1, versions=OLD),
        builders.trial("tversky", 0.6, 2, versions=NEW, device="cpu, 2 threads"),
        builders.trial("dice_ce", 0.6, 3, versions=NEW, earlier=(earlier,)),
    )


def test_every_output_attributes_trainings_to_device_and_versions() -> None:
    sweep = builders.sweep(trials=make_mixed_trials(), confirmations=(), probes=(), versions=OLD)
    assert [(t.device, dict(t.versions), t.trainings, t.partly) for t in list_trainers(sweep)] == [
        ("cpu, 1 thread", OLD, ("search/00000", "search/00001", "search/00003"), ("search/00003",)),
        ("cpu, 2 threads", NEW, ("search/00002",), ()),
        ("cpu, 1 thread", NEW, ("search/00003",), ("search/00003",)),
    ]
    document = json.loads(make_document(sweep, draw_conclusion(sweep)).model_dump_json())
    assert document["versions"] == OLD
    assert document["trained_by"][1] == {
        "device": "cpu, 2 threads",
        "versions": NEW,
        "trainings": ["search/00002"],
        "partly": [],
    }
    frame = make_trials_frame(sweep)
    assert list(frame["versions"]) == [None, "torch 2.11", "torch 2.12", "torch 2.12"]
    _, tags = RunValues(sweep.conditions).make_result_metrics(sweep.trials[3])
    assert tags["sweeper.versions"] == "torch 2.12"
    assert tags["sweeper.earlier"] == "up to step 2: cpu, 1 thread; torch 2.11"
