"""Run a script as a process: its command, environment, log, time limit, and the end of all that it started."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from sweeper.core.errors import ScriptError, UsageError
from sweeper.core.redact import hide_command_secrets
from sweeper.core.text import format_duration, suggest_correction
from sweeper.scripts.contract import LOG, MODULES, TrialDocument

PLACES = ("seed", "lr_factor", "share", "folder", "family", "fold")
"""Names that may stand in braces in a command."""
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
SHELL = ";&|<>"
"""Characters that connect or redirect commands in a shell, if they are not quoted."""
KEPT_BYTES, LOG_TAIL = 2**20, 2**16
"""Bytes of its output that are kept."""
TERM_SECONDS = 6.0
"""Seconds between SIGTERM and SIGKILL: less than the 8 s after which a stop of sweeper itself is forced."""
UPLOAD_SECONDS = 30.0
"""Seconds to wait for processes that a script left, such as an upload, while they hold its output open."""
LAST_LINES, LINE_LENGTH = 12, 300


class ScriptEnd(NamedTuple):
    """End of a script."""

    status: int
    """Exit status; negative: the signal that ended it."""
    seconds: float
    """Until its output is closed, or no longer awaited."""
    is_late: bool
    """Whether the time limit ended it."""
    printed: int
    """Bytes of output."""
    last: tuple[str, ...]
    """Last lines of its output."""
    waited: float = 0.0
    """Seconds waited for processes that it left."""

    @property
    def remark(self) -> str:
        """Remark on a wait that may surprise; else ""."""
        if self.waited < 1:
            return ""
        return f"it left processes that hold its output open: waited {format_duration(self.waited)}"


def split_command(command: str) -> list[str]:
    """Split a command, which runs without a shell, into words.

    Raises:
        UsageError: if it has no words, needs a shell, or has an unknown placeholder.
    """
    lexer = shlex.shlex(command, posix=True, punctuation_chars=SHELL)
    lexer.whitespace_split, lexer.commenters = True, ""
    shown = hide_command_secrets(command)
    try:
        words = [*lexer]
    except ValueError as error:
        raise UsageError(f"--command must be words as a shell takes them, got {shown}: {error}") from error
    needs_shell = any(word and not word.strip(SHELL) for word in words)
    begins_program = bool(words) and not _ASSIGNMENT.match(words[0])
    if needs_shell or not begins_program:
        raise UsageError(
            f"--command must be one program with its arguments, got {shown!r}; for more, give a file to run, as "
            "--command 'bash train.sh'"
        )
    for place in re.findall(r"(?<!\{)\{([A-Za-z_]+)\}(?!\})", command):
        if place not in PLACES:
            places = ", ".join(f"{{{name}}}" for name in PLACES)
            raise UsageError(
                f"--command takes {places}, got {{{place}}}{suggest_correction(place, PLACES)}; double braces that stay"
            )
    return words


def fill_places(words: Sequence[str], trial: TrialDocument, folder: Path) -> list[str]:
    """Replace {seed} and the other placeholders by the trial's values; {{x}} becomes {x}."""
    values = {**{name: getattr(trial, name) for name in PLACES if name != "folder"}, "folder": folder}
    values["fold"] = "" if trial.fold is None else trial.fold
    kept = re.compile(r"\{\{([A-Za-z_]+)\}\}|\{([A-Za-z_]+)\}")
    return [kept.sub(lambda m: f"{{{m[1]}}}" if m[1] else str(values.get(m[2], m[0])), word) for word in words]


def read_output(*words: str) -> str | None:
    """Return the output of a program, such as git; None where it is missing, or ends with an error."""
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(words, capture_output=True, text=True, timeout=20, check=True).stdout
    return None


def run_script(
    words: Sequence[str],
    folder: Path,
    *,
    seconds: float,
    is_done: Callable[[], bool] = lambda: False,
    grace: float = 20.0,
    environment: Mapping[str, str] | None = None,
) -> ScriptEnd:
    """Run a command to its end in the current folder, with its output in log.txt of the training's folder.

    It is ended after the time limit, or `grace` seconds after `is_done` is true. All processes that it started are
    ended with it, even if an exception is raised. `environment` is added to that of this process.

    Raises:
        ScriptError: if the command cannot be started.
    """
    path = os.pathsep.join([str(folder / MODULES), *filter(None, [os.environ.get("PYTHONPATH")])])
    begun = time.monotonic()
    try:
        process = subprocess.Popen(
            words,
            # Unbuffered: output before a hang must be in the log.
            env={
                "PYTHONUNBUFFERED": "1",
                **os.environ,
                **(environment or {}),
                "SWEEPER_TRIAL": str(folder),
                "PYTHONPATH": path,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        text = (
            f"{words[0]} must be a program that can be started, and cannot: {error.strerror}; give its whole path, or "
            "name the program that runs it, as 'bash train.sh' does"
        )
        raise ScriptError(hide_command_secrets(shlex.join(words)), [text]) from error
    assert process.stdout is not None
    log = _BoundedLog(process.stdout, folder / LOG)
    is_late, done_at, waited = False, None, 0.0

    def is_over() -> bool:
        nonlocal done_at
        if done_at is None and is_done():
            done_at = time.monotonic()
        return done_at is not None and time.monotonic() - done_at > grace

    try:
        while process.poll() is None:
            is_late = time.monotonic() - begun > seconds
            if is_late or is_over():
                break
            time.sleep(0.02)
        took = time.monotonic() - begun
        if process.poll() is not None:
            while log.thread.is_alive() and waited < UPLOAD_SECONDS and not is_over():
                log.thread.join(0.05)
                waited = time.monotonic() - begun - took
    finally:
        end_processes(folder, process)
        log.thread.join(5.0)
        status = process.wait()
    return ScriptEnd(status, took + waited, is_late, log.size, log.get_last_lines(), waited)


def end_processes(folder: Path, process: subprocess.Popen[bytes] | None = None) -> None:
    """End the processes of a training, and the group of `process`, first by SIGTERM, then by SIGKILL."""
    try:
        _signal_processes(folder, process, signal.SIGTERM)
    finally:  # even if a signal to sweeper ends the wait
        _signal_processes(folder, process, signal.SIGKILL)


def _signal_processes(folder: Path, process: subprocess.Popen[bytes] | None, number: signal.Signals) -> None:
    """Send a signal to the processes of a training, and wait for their end."""
    until = time.monotonic() + TERM_SECONDS
    group = None if process is None else process.pid

    def is_running() -> bool:
        return process is not None and process.poll() is None

    members = _list_members(group, folder)
    if group is not None and (members or is_running()):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)
    for one in members:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(one, number)
    while (is_running() or _list_members(group, folder)) and time.monotonic() < until:
        time.sleep(0.02)


def _list_members(group: int | None, folder: Path) -> list[int]:
    """List the processes of a group, and those with its variable: launchers start groups of their own."""
    members, mark = [], f"SWEEPER_TRIAL={folder}".encode()
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, _, group_of_process = (path / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[:3]
            if state not in "ZX" and (
                int(group_of_process) == group or mark in (path / "environ").read_bytes().split(b"\0")
            ):
                members.append(int(path.name))
    return members


class _BoundedLog:
    """Keeps the first megabyte and the last lines of a script's output, however much it prints."""

    def __init__(self, pipe: IO[bytes], path: Path) -> None:
        self.size, self._tail, self._pipe, self._path = 0, b"", pipe, path
        self.thread = threading.Thread(target=self._read_output, daemon=True, name="log")
        self.thread.start()

    def _read_output(self) -> None:
        with self._pipe, self._path.open("wb", buffering=0) as file:
            while got := os.read(self._pipe.fileno(), 2**16):
                with suppress(OSError):  # a full disk must not block the script's next line
                    if self.size < KEPT_BYTES:
                        file.write(got)
                self._tail = (self._tail + got)[-LOG_TAIL:]
                self.size += len(got)
            with suppress(OSError):
                if self.size > KEPT_BYTES:
                    file.write(f"\n… {self.size:,} bytes in all; the last:\n".encode() + self._tail)

    def get_last_lines(self) -> tuple[str, ...]:
        """Return the last lines, without cursor movements."""
        text = re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]", "", self._tail.decode("utf-8", "replace"))
        lines = [line.rstrip().rsplit("\r", 1)[-1] for line in text.split("\n")]
        kept = ["".join(c if c.isprintable() else " " for c in line)[:LINE_LENGTH] for line in lines if line.strip()]
        return tuple(kept[-LAST_LINES:])
