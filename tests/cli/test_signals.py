"""Ctrl-C and SIGTERM: the handler never blocks, and a process that hangs ends, too."""

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


def test_the_signal_handler_logs_from_another_thread() -> None:
    """A handler interrupts any code: a write in it could wait for the code that it interrupted."""
    log_threads, may_continue = list[threading.Thread](), threading.Event()

    def log(_: str) -> None:
        log_threads.append(threading.current_thread())
        may_continue.wait(60)

    with StopRequest(log) as stop:
        stop.defer_signals()
        signal.raise_signal(signal.SIGTERM)
        assert stop.status == 143
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        may_continue.set()
    assert log_threads == [stop._thread]


def test_a_signal_whose_error_a_library_caught_is_not_lost() -> None:
    with StopRequest(pytest.fail) as stop:
        with pytest.raises(InterruptedSweepError):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(InterruptedSweepError, match="stopped before the first result") as caught:
            stop.defer_signals()
    assert caught.value.exit_status == 143


def test_a_process_that_contains_a_sweep_outlives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeper.cli.signals.END_SECONDS", 1000)
    with StopRequest(lambda _: None) as stop:
        stop.defer_signals()
        signal.raise_signal(signal.SIGTERM)
    stop._thread.join(60)
    assert stop._end is not None and stop._end.finished.is_set()
    assert signal.set_wakeup_fd(-1) == -1
