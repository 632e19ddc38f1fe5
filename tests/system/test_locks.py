"""Locks between processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sweeper import storage as studies
from sweeper.core.errors import UsageError
from sweeper.system import locks
from sweeper.system.locks import lock_database_creation

HOLD = """
import sys
from pathlib import Path
from sweeper.system.locks import lock_database_creation
with lock_database_creation(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="processes cannot be stopped there")
def test_the_wait_for_a_stopped_process_that_makes_a_database_has_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "sweeper.db"
    monkeypatch.setattr(locks, "CREATION_SECONDS", 0.5)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin is not None and holder.stdout is not None
    try:
        assert holder.stdout.readline() == "held\n"
        os.kill(holder.pid, signal.SIGSTOP)
        with pytest.raises(UsageError, match=r"another process has held .*create.lock for more than 0.5 s"):
            studies.open_storage(f"sqlite:///{database}")
    finally:
        os.kill(holder.pid, signal.SIGCONT)
        holder.communicate()
    studies.open_storage(f"sqlite:///{database}").remove_session()
    with lock_database_creation(database):
        pass
