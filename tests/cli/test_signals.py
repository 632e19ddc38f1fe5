"""Ctrl-C and SIGTERM: the handler waits for nobody, and what hangs ends all the same."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sweeper.cli.signals import StopRequest
from sweeper.core.errors import InterruptedSweepError

HANGS = {
    "a wait": "threading.Event().wait()",
    "a wait in a library, where no handler of Python's runs": (
        "one, other = (sqlite3.connect('x.db', timeout=600) for _ in range(2))\n    one.execute('BEGIN EXCLUSIVE')\n   "
        " other.execute('BEGIN EXCLUSIVE')"
    ),
    "what comes afterwards": "while stop.status is None: time.sleep(0.01)",
    "what says that the stop was heard": "sys.stdout.write('x' * 9_000_000)",
}
PROGRAM = """
import os, signal, sqlite3, sys, threading, time
from sweeper.cli import signals
signals.END_SECONDS = 0.5
def log(text):
    sys.stdout.write(text)
with signals.StopRequest(log, whole=True) as stop:
    stop.defer_signals()
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    {}
threading.Event().wait()
"""


@pytest.mark.parametrize("hang", HANGS.values(), ids=HANGS)
@pytest.mark.slow
def test_sigterm_ends_a_process_whatever_it_waits_for(tmp_path: Path, hang: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(hang)], cwd=tmp_path, stdout=subprocess.PIPE
    ) as process:  # nobody reads what it writes
        try:
            assert process.wait(60) == 143
        finally:
            process.kill()


def test_the_handler_says_nothing_itself() -> None:
    """It runs amid anything: a write of its own could wait for what it interrupted."""
    heard, go_on = list[threading.Thread](), threading.Event()

    def log(_: str) -> None:
        heard.append(threading.current_thread())
        go_on.wait(60)

    with StopRequest(log) as stop:
        stop.defer_signals()
        signal.raise_signal(signal.SIGTERM)
        assert stop.status == 143
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        go_on.set()
    assert heard == [stop._thread]


def test_a_signal_whose_error_a_library_caught_is_not_lost() -> None:
    with StopRequest(pytest.fail) as stop:
        with pytest.raises(InterruptedSweepError):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(InterruptedSweepError, match="stopped before anything was trained") as caught:
            stop.defer_signals()
    assert caught.value.exit_status == 143


def test_a_process_of_which_a_sweep_is_a_part_outlives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeper.cli.signals.END_SECONDS", 1000)
    with StopRequest(lambda _: None) as stop:
        stop.defer_signals()
        signal.raise_signal(signal.SIGTERM)
    stop._thread.join(60)
    assert stop._end is not None and stop._end.finished.is_set()
    assert signal.set_wakeup_fd(-1) == -1
