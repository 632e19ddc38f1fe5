"""Limits of the system and errors of a library are reported with what to do."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from sweeper.cli import main as entry
from sweeper.system import system_errors as limits
from sweeper.system.disk_space import explain_full_disk


@pytest.mark.parametrize(
    "error, words",
    [
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (BlockingIOError(11, "Resource temporarily unavailable"), "ulimit -u"),
        (OSError(24, "Too many open files"), "ulimit -n"),
        (MemoryError(), "memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "memory ran out"),
        (sqlite3.DatabaseError("database disk image is malformed"), "sqlite3 FILE .recover"),
    ],
)
def test_limits_of_the_system_are_explained(error: Exception, words: str) -> None:
    assert words in str(limits.explain_limit(error))
    wrapped = RuntimeError("something else")
    wrapped.__cause__ = error
    assert words in str(limits.explain_limit(wrapped))
    assert limits.explain_limit(RuntimeError("something else")) is None


def test_a_thread_that_cannot_be_started_is_not_reported_as_a_defect(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(**_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(entry.cli, "main", refuse)
    with pytest.raises(SystemExit) as caught:
        entry.main()
    message = capsys.readouterr().err
    assert caught.value.code == 1 and "mistake in sweeper" not in message and "ulimit -u" in message
    monkeypatch.setattr(sys, "argv", ["sweeper", "predict", "--json"])
    with pytest.raises(SystemExit):
        entry.main()
    output = capsys.readouterr()
    assert "ulimit -u" in output.err and "--resume" not in output.err and "--workers" not in output.err
    assert "ulimit -u" in json.loads(output.out)["error"]["message"]


@pytest.mark.parametrize("error", [ImportError("numpy: PLEASE READ THIS"), MemoryError()])
def test_a_limit_of_memory_is_explained_with_the_memory_that_is_needed(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2 * 10**9, 2 * 10**9))
    explanation = limits.explain_limit(error)
    assert (
        explanation is not None
        and "may reserve 2.0 GB" in explanation
        and "needs 5 GB" in explanation
        and "ulimit -v unlimited" in explanation
    )
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert limits.explain_memory_limit() is None


def test_the_command_after_an_unexpected_error_contains_the_study(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail(**_: object) -> None:
        with explain_full_disk(None, {"the reports": tmp_path}) as set_study:
            set_study("my study")
            raise OperationalError("SELECT 1", {}, sqlite3.OperationalError("no such table"))

    monkeypatch.setattr(entry.cli, "main", fail)
    with pytest.raises(SystemExit):
        entry.main()
    message = capsys.readouterr().err
    assert "sweeper run --study 'my study' --resume." in message and "NAME" not in message
    assert (
        "OperationalError: no such table. This" in message and "sqlalche.me" not in message and "SELECT" not in message
    )
