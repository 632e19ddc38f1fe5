"""Stored records: their formats have numbers, older ones are read, and a changed bit is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sweeper import storage as studies
from sweeper.core.errors import DamagedError, InterruptedSweepError, StudyError
from sweeper.core.records import TrialResult
from sweeper.storage import record_format as stored
from sweeper.version import __version__
from sweeper.workflow.conclude import report_study
from tests import builders
from tests.old_studies import restore_old
from tests.sweeping import Recorder, sweep_in


def opened(path: Path) -> Any:
    return studies.open_storage(f"sqlite:///{path}", create=False)


# --- Older formats ------------------------------------------------------------------------------------------


def test_a_study_of_the_first_format_is_reported(tmp_path: Path) -> None:
    storage = opened(restore_old(tmp_path))
    finished = report_study(storage, "finished", out=tmp_path / "reports")
    record = finished.sweep
    assert (len(record.trials), len(record.rechecks), len(record.confirmations)) == (8, 12, 6)
    assert [t.state for t in record.trials].count("pruned") == 1
    assert (record.trials_asked, record.confirm_seeds, record.rope) == (8, 3, 0.01)
    assert len(record.looks_planned) == 2 and len(record.looks_taken) == 1 and record.looks == 1
    document = json.loads(finished.paths.recommendation.read_text("utf-8"))
    assert document["versions"]["torch"] == "2.12.1" and len(document["finalists"]) == 3
    report = finished.paths.markdown.read_text("utf-8")
    assert "begun by a version without a common grid of learning rates" in report
    interrupted = studies.load_sweep(storage, "interrupted")
    assert len(interrupted.trials) == 1 and interrupted.trials_asked == 12


@pytest.mark.slow
def test_a_study_of_the_first_format_is_resumed(tmp_path: Path) -> None:
    path = restore_old(tmp_path)
    same = {"data": None, "steps": None, "confirm_steps": None, "size": None, "batch_size": None, "confirm_seeds": None}
    display = Recorder(stop_after=1)
    with pytest.raises(InterruptedSweepError):
        sweep_in(tmp_path, display, study="interrupted", resume=True, trials=12, **same)
    study = opened(path)
    after = studies.load_sweep(study, "interrupted")
    assert len(after.trials) >= 2 and after.conditions.recipe.steps == 8
    waiting = studies.load_study(study, "interrupted")
    held = {r.spec.number for r in studies.waiting_results(waiting)}
    assert {0, 1} <= held | {t.spec.number for t in after.trials}, "the trials that waited are neither lost nor doubled"
    # What is finished needs no training: the whole resume reads what was stored, and writes its report.
    done = sweep_in(tmp_path, Recorder(), study="finished", resume=True, trials=None, **same)
    assert len(done.sweep.trials) == 8 and len(done.sweep.confirmations) == 6


# --- Numbers and checksums ----------------------------------------------------------------------------------


def test_a_record_comes_back_as_it_was_stored() -> None:
    result = builders.confirmation("dice", number=3)
    document = json.loads(json.dumps(studies.pack(result, beside={"loss": "dice", "lr": 1e-3})))
    assert document["stored_as"]["format"] == studies.FORMAT and document["stored_as"]["by"] == __version__
    assert document["value"] == result.value, "who reads the attribute elsewhere finds it as before"
    assert studies.unpack(TrialResult, document, "it", beside={"lr": 0.001, "loss": "dice"}) == result
    with pytest.raises(DamagedError, match="beside"):
        studies.unpack(TrialResult, document, "it", beside={"lr": 0.002, "loss": "dice"})


def test_every_bit_of_a_stored_record_counts() -> None:
    """Each bit of a small stored result is flipped: JSON is refused, or the record is, or it means the same."""
    result = builders.failed_trial(reason="x")
    text = json.dumps(studies.pack(result)).encode()
    silent = 0
    for place in range(len(text)):
        for bit in range(8):
            flipped = bytearray(text)
            flipped[place] ^= 1 << bit
            try:
                document = json.loads(flipped)
            except ValueError:  # refused by JSON or UTF-8: told by the scan of the database
                continue
            try:
                found = studies.unpack(TrialResult, document, "the result of trial 7")
            except DamagedError as error:
                assert "the result of trial 7 is damaged" in str(error) and "doctor --repair" in str(error)
                continue
            except StudyError as error:
                assert "format" in str(error)
                continue
            silent += found != result
    assert silent == 0


def test_a_plain_value_of_the_first_format_is_read_and_a_changed_one_is_named() -> None:
    assert studies.unpack_value({"rope": 0.02}, "rope") == 0.02
    assert studies.unpack_value({}, "rope", 0.01) == 0.01
    document = studies.pack_value(0.02)
    assert studies.unpack_value({"rope": document}, "rope") == 0.02
    with pytest.raises(DamagedError, match="'rope'"):
        studies.unpack_value({"rope": {**document, "value": 0.03}}, "rope")


def test_what_a_newer_version_made_is_told_as_such() -> None:
    result = builders.failed_trial()
    content = result.model_dump(mode="json")
    newer = {**content, "stored_as": {"format": 99, "by": "7.1", "sha256": stored.checksum(content)}}
    with pytest.raises(StudyError, match=rf"made by sweeper 7\.1 in format 99; this is sweeper {__version__}"):
        studies.unpack(TrialResult, newer, "trial 3")
    more = {**content, "colour": "red"}
    unknown = {**more, "stored_as": {"format": studies.FORMAT, "by": "7.1", "sha256": stored.checksum(more)}}
    with pytest.raises(StudyError, match=r"made by sweeper 7\.1; this is .* colour"):
        studies.unpack(TrialResult, unknown, "trial 3")


def test_every_older_format_has_a_reader_and_each_reader_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(stored.READERS) == set(range(1, stored.FORMAT))
    content = builders.failed_trial(reason="old words").model_dump(mode="json")
    older = {key: value for key, value in content.items() if key != "reason"} | {"why": "old words"}

    def renamed(kind: str, document: dict[str, Any]) -> dict[str, Any]:
        assert kind == "TrialResult"
        return {("reason" if key == "why" else key): value for key, value in document.items()}

    monkeypatch.setattr(stored, "READERS", {1: renamed})
    assert studies.unpack(TrialResult, older, "it").reason == "old words"
