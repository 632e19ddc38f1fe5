"""Limits of the machine are reported with what to do, and not as mistakes in sweeper."""

from __future__ import annotations

import json
import sqlite3
import sys

import optuna
import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from sweeper.cli import main as entry
from sweeper.core.text import format_resume_command
from sweeper.system.machine import explain_machine_limit


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("can't start new thread"),
        BlockingIOError(11, "Resource temporarily unavailable"),
        OSError(24, "Too many open files"),
        OSError(28, "No space left on device", "/else/where"),
        OSError(122, "Disk quota exceeded"),
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        sqlite3.OperationalError("database or disk is full"),
        psycopg.errors.DiskFull('could not extend file "base/5/16400": No space left on device'),
    ],
)
def test_limits_of_the_machine_are_explained_with_their_cause(error: Exception) -> None:
    text = explain_machine_limit(error)
    assert text is not None and "this machine allows no more: " in text and (str(error) or "MemoryError") in text
    outer = optuna.exceptions.StorageInternalError("the commit failed")
    outer.__cause__ = OperationalError("INSERT", {}, error)
    assert explain_machine_limit(outer) == text


@pytest.mark.parametrize(
    "error", [ValueError("no"), FileNotFoundError(2, "no such file"), sqlite3.OperationalError("no such table")]
)
def test_other_errors_are_not_explained(error: Exception) -> None:
    assert explain_machine_limit(error) is None


def test_a_thread_that_cannot_be_started_is_not_reported_as_a_defect(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(**_: object) -> None:
        error = RuntimeError("can't start new thread")
        error.add_note(format_resume_command("my study"))
        raise error

    monkeypatch.setattr(entry.cli, "main", refuse)
    monkeypatch.setattr(sys, "argv", ["sweeper", "run", "--json"])
    with pytest.raises(SystemExit) as caught:
        entry.main()
    output = capsys.readouterr()
    assert caught.value.code == 1 and "mistake in sweeper" not in output.err and "ulimit -a" in output.err
    assert "this continues it: sweeper run --study 'my study' --resume." in output.err
    assert "ulimit -a" in json.loads(output.out)["error"]["message"]


def test_the_command_after_an_unexpected_error_contains_the_study(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        error = OperationalError("SELECT 1", {}, sqlite3.OperationalError("no such table"))
        error.add_note(format_resume_command("my study"))
        raise error

    monkeypatch.setattr(entry.cli, "main", fail)
    with pytest.raises(SystemExit):
        entry.main()
    message = capsys.readouterr().err
    assert "sweeper run --study 'my study' --resume." in message
    assert (
        "OperationalError: no such table. This" in message and "sqlalche.me" not in message and "SELECT" not in message
    )
