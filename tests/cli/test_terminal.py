"""Long lines are broken between words on a terminal, and only there."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sweeper.cli.terminal import echo_lines

LINE = "  - images of val must be the same in each training of a seed; draw the split with t.seed, or keep it in a file"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [40, 72])
def test_a_terminal_gets_lines_that_end_with_words(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys, "stderr", output := Terminal())
    echo_lines(f"short\n{LINE}", err=True)
    first, *others = output.getvalue().splitlines()
    assert first == "short" and len(others) > 1
    assert all(len(line) <= width for line in others) and all(line.startswith("    ") for line in others[1:])
    assert " ".join(line.strip() for line in others) == LINE.strip()


def test_a_command_is_not_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys, "stdout", output := Terminal())
    echo_lines(command := "  sweeper run --study 'my own study' --resume --storage sqlite:///elsewhere.db")
    assert output.getvalue() == f"{command}\n"


def test_a_pipe_gets_the_line_unbroken(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("COLUMNS", "40")
    echo_lines(LINE)
    assert capsys.readouterr().out == f"{LINE}\n"


@pytest.mark.slow
def test_an_error_on_a_real_terminal_is_broken_between_words(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "sweeper", "run", "no/such/folder/of/images", "--storage", "sqlite:///x.db"]
    environment = {**os.environ, "COLUMNS": "50", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=follower, stderr=follower) as running:
        os.close(follower)
        output = b""
        try:
            while part := os.read(leader, 4096):
                output += part
        except OSError:  # the last writer is gone
            pass
    os.close(leader)
    assert running.returncode == 2
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", output.decode())
    lines = text[text.index("sweeper: ") :].splitlines()
    assert len(lines) > 2 and max(map(len, lines)) <= 50
