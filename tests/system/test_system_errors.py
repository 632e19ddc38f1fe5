"""Limits of the system, and errors of a library, in words that say what to do."""

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
def test_limits_of_the_system_are_told_as_such(error: Exception, words: str) -> None:
    assert words in str(limits.explain_limit(error))
    wrapped = RuntimeError("something else")
    wrapped.__cause__ = error
    assert words in str(limits.explain_limit(wrapped))
    assert limits.explain_limit(RuntimeError("something else")) is None


def test_a_thread_that_cannot_be_started_is_no_mistake_of_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(**_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(entry.cli, "main", refused)
    with pytest.raises(SystemExit) as ended:
        entry.main()
    told = capsys.readouterr().err
    assert ended.value.code == 1 and "mistake in sweeper" not in told and "ulimit -u" in told
    monkeypatch.setattr(sys, "argv", ["sweeper", "predict", "--json"])
    with pytest.raises(SystemExit):
        entry.main()
    found = capsys.readouterr()
    assert "ulimit -u" in found.err and "--resume" not in found.err and "--workers" not in found.err
    assert "ulimit -u" in json.loads(found.out)["error"]["message"]


@pytest.mark.parametrize("sort", [ImportError("numpy: PLEASE READ THIS"), MemoryError()])
def test_a_limit_of_memory_is_told_with_what_is_needed(sort: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2 * 10**9, 2 * 10**9))
    told = limits.explain_limit(sort)
    assert told is not None and "may reserve 2.0 GB" in told and "needs 5 GB" in told and "ulimit -v unlimited" in told
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert limits.explain_memory_limit() is None


def test_an_unexpected_error_names_the_study_in_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fails(**_: object) -> None:
        with explain_full_disk(None, {"the reports": tmp_path}) as named:
            named("my study")
            raise OperationalError("SELECT 1", {}, sqlite3.OperationalError("no such table"))

    monkeypatch.setattr(entry.cli, "main", fails)
    with pytest.raises(SystemExit):
        entry.main()
    told = capsys.readouterr().err
    assert "sweeper run --study 'my study' --resume." in told and "NAME" not in told
    assert "OperationalError: no such table. This" in told and "sqlalche.me" not in told and "SELECT" not in told
