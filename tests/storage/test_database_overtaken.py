"""A leader on PostgreSQL that is stopped, overtaken and continued ends with an error that explains this."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.support.postgres_server import Server

LEADER = """
import os, signal, sys
from pathlib import Path
from sweeper import storage as studies
from sweeper.core.errors import MissingStudyError, SweeperError
from sweeper.system import leases
from tests.support.faking import FakeExecutor, train
from tests.support.killing import PLANS, Writes, make_crossing_result

leases.LEASE_SECONDS, leases.RENEW_SECONDS = 2.0, 0.3
url, stop_at = sys.argv[1], int(sys.argv[2])

class Stops(Writes):
    def _commit(self, connection):
        before = self.count
        changed, self._last = self._changed, None
        super()._commit(connection)
        if changed and self.count == stop_at:
            os.kill(os.getpid(), signal.SIGSTOP)

storage = studies.open_storage(url)
try:
    studies.read_plan(storage, "s")
    study = studies.open_study(storage, "s")
except MissingStudyError:
    study = studies.create_study(storage, "s", PLANS["sweep"])
try:
    with studies.hold_study(url, "s") as lost:
        if stop_at:
            Stops(None)
        train(study, FakeExecutor(make_crossing_result), trials=9, lost=lost)
    print("whole", len(studies.list_all_results(study)))
except SweeperError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def start_leader(url: str, stop_at: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", LEADER, url, str(stop_at)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", [45, pytest.param(63, marks=pytest.mark.exhaustive), 100])
def test_a_leader_that_was_overtaken_while_stopped_reports_it(postgres: Server, stop_at: int) -> None:
    url = postgres.fresh()
    first = start_leader(url, stop_at)
    assert os.WIFSTOPPED(os.waitpid(first.pid, os.WUNTRACED)[1])
    second = start_leader(url)
    _, errors = second.communicate(timeout=200)
    assert second.returncode == 0, errors
    os.kill(first.pid, signal.SIGCONT)
    _, message = first.communicate(timeout=100)
    assert first.returncode == 1, message
    assert message.startswith("LostStudyError: ") and "another process runs it now" in message, message
