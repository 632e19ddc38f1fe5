"""Wait for another thread or process."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Any


def wait_until(
    condition: Callable[[], object], seconds: float = 60, process: subprocess.Popen[Any] | None = None
) -> None:
    """Wait until a function returns something true, while `process` runs."""
    end = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < end, "the condition was not met in time"
        time.sleep(0.01)
