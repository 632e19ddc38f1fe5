"""Each training keeps what trained it; a resume under other versions rewrites nothing, and says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sweeper import storage as studies
from sweeper.core import provenance
from sweeper.core.provenance import ProvenanceChanges, trained_by
from sweeper.core.records import Dataset, TrainedBy
from sweeper.data import open_store
from sweeper.evidence.recommendation import recommend, recommendation_json
from sweeper.report.tables import trials_frame
from sweeper.tracking.values import Values
from sweeper.training import engine
from sweeper.training.engine import Training
from sweeper.version import versions
from tests.support import builders
from tests.support.sweeping import Recorder, sweep_in

OLD, NEW = {"torch": "2.11"}, {"torch": "2.12"}


def test_a_training_that_was_paused_tells_what_trained_which_steps(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conditions = builders.conditions(tiny, size=32, batch_size=2, steps=8, encoder_depth=3)
    spec = builders.spec("dice", steps=8, params={})
    store = open_store(tiny.store)
    whole = Training(spec, conditions, store, "cpu")
    whole.advance()
    assert whole.result("pruned").versions == versions() and whole.result("pruned").earlier == ()
    monkeypatch.setattr(engine, "versions", lambda: OLD)
    first = Training(spec, conditions, store, "cpu")
    first.advance()
    first.save(tmp_path / "pause.pt")
    step = first.result("pruned").evaluations[-1].step
    same = Training(spec, conditions, store, "cpu", checkpoint=tmp_path / "pause.pt")
    same.advance()
    assert same.result("pruned").earlier == ()
    monkeypatch.setattr(engine, "versions", lambda: NEW)
    other = Training(spec, conditions, store, "cpu", checkpoint=tmp_path / "pause.pt")
    other.advance()
    found = other.result("pruned")
    assert found.versions == NEW
    assert found.earlier == (TrainedBy(device=found.device, versions=OLD, step=step),)


def mixed() -> tuple[object, ...]:
    return (
        builders.trial("dice", 0.6, 0),
        builders.trial("focal", 0.6, 1, versions=OLD),
        builders.trial("tversky", 0.6, 2, versions=NEW, device="cpu, 2 threads"),
        builders.trial(
            "dice_ce", 0.6, 3, versions=NEW, earlier=(TrainedBy(device="cpu, 1 thread", versions=OLD, step=2),)
        ),
    )


def test_trainings_are_attributed_to_what_trained_them() -> None:
    sweep = builders.sweep(trials=mixed(), confirmations=(), rechecks=(), probes=(), versions=OLD)
    found = trained_by(sweep)
    assert [(t.device, dict(t.versions), t.trainings, t.partly) for t in found] == [
        ("cpu, 1 thread", OLD, ("search/00000", "search/00001", "search/00003"), ("search/00003",)),
        ("cpu, 2 threads", NEW, ("search/00002",), ()),
        ("cpu, 1 thread", NEW, ("search/00003",), ("search/00003",)),
    ]
    answer = recommend(None, task="binary", order=builders.ORDER, snippet=lambda *_: "")
    document = json.loads(json.dumps(recommendation_json(sweep, answer)))
    assert document["versions"] == OLD
    assert document["trained_by"][1] == {
        "device": "cpu, 2 threads",
        "versions": NEW,
        "trainings": ["search/00002"],
        "partly": [],
    }
    frame = trials_frame(sweep)
    assert list(frame["versions"]) == [None, "torch 2.11", "torch 2.12", "torch 2.12"]
    _, tags = Values(sweep.conditions).of_result(sweep.trials[3])
    assert tags["sweeper.versions"] == "torch 2.12"
    assert tags["sweeper.earlier"] == "up to step 2: cpu, 1 thread; torch 2.11"


def test_other_versions_and_devices_are_told_once() -> None:
    sweep = builders.sweep(trials=mixed())
    one, _, two, _ = sweep.trials
    changes = ProvenanceChanges([one], OLD)
    assert changes.of_session(OLD) is None
    assert "torch 2.11 → 2.12" in str(changes.of_session(NEW)) and changes.of_session(NEW) is None
    text = changes.of_result(two)
    assert text is not None and "on cpu, 2 threads (before: cpu, 1 thread)" in text and "versions" not in text[:40]
    assert changes.of_result(two) is None
    fresh = ProvenanceChanges([], OLD)
    assert fresh.of_session(NEW) is None and fresh.of_result(two) is None, "a new study has nothing before it"
    assert provenance.describe_change({"a": "1"}, {"a": "1", "b": "2"}) == "b none → 2"


@pytest.mark.slow
def test_a_resume_leaves_the_versions_of_what_is_there_alone_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sweep_in(tmp_path, Recorder())
    before = versions()
    monkeypatch.setattr("sweeper.workflow.lead.versions", lambda: {**before, "numpy": "9.9.9"})
    display = Recorder()
    done = sweep_in(tmp_path, display, study=made.sweep.study, resume=True, trials=None)
    assert any(f"numpy {before['numpy']} → 9.9.9" in line for line in display.warnings), display.warnings
    storage = studies.open_storage(f"sqlite:///{tmp_path}/sweeper.db", create=False)
    assert studies.read_plan(storage, made.sweep.study).versions == before
    assert {t.versions["numpy"] for t in trained_by(done.sweep)} == {before["numpy"]}
