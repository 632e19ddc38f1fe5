"""A lease on a real server: its holder is stopped while it renews, and another process takes it meanwhile."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from sweeper.system import leases
from tests.support.postgres_server import Server


@pytest.mark.slow
def test_a_renewal_counts_from_its_request_and_not_from_a_late_answer(
    postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0.5)
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.1)
    url = postgres.fresh()
    stopped, continued = threading.Event(), threading.Event()
    first, second = leases.Lease(url, "study.s"), leases.Lease(url, "study.s")
    extend = first._extend_lease

    def extend_and_stop(connection: Any) -> bool:
        extended = extend(connection)
        if not stopped.is_set():
            stopped.set()
            continued.wait(30)
        return extended

    monkeypatch.setattr(first, "_extend_lease", extend_and_stop)
    first.acquire(wait=False)
    try:
        assert stopped.wait(30)
        second.acquire(wait=True)
        monkeypatch.setattr(leases, "RENEW_SECONDS", 1.0)  # no renewal follows at once
        time.sleep(2.1)
        continued.set()
        first._end.wait(0.2)  # the late answer is read
        assert first.is_lost()
    finally:
        continued.set()
        second.release()
        first.release()
