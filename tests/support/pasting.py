"""Commands and Python text that sweeper prints, as a person pastes them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def paste(command: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `command` in a shell in `folder`, in which the programs of this environment are found."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, **variables}
    return subprocess.run(
        command, shell=True, cwd=folder, capture_output=True, text=True, timeout=240, env=environment, check=False
    )


def run_text(text: str, **names: Any) -> dict[str, Any]:
    """Run Python text with these names, and return all that are then defined."""
    names = {"__name__": "pasted", **names}
    exec(compile(text, "pasted", "exec"), names)
    return names
