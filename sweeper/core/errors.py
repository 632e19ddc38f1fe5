"""All errors, as one tree: each class has its exit status of the command line.

The library raises them; only `sweeper.cli.main` turns them into messages and an exit status. Every message has the
rule, the value found and the next step.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sweeper.core.redact import NO_ADDRESS, hide_address_secrets, redact
from sweeper.core.text import escape_for_display, format_count


class SweeperError(Exception):
    """An error that sweeper reports on purpose. `exit_status` is that of the command line.

    Unprintable characters of its message, such as those in names of files, are escaped for the terminal.
    """

    exit_status = 1

    def __init__(self, message: str = "") -> None:
        super().__init__("\n".join(map(escape_for_display, message.split("\n"))))


class UsageError(SweeperError):
    """A wrong option or configuration; nothing was trained.

    `refused` is the word that names nothing here, and may be meant for another command.
    """

    exit_status = 2

    def __init__(self, message: str = "", refused: str = "") -> None:
        super().__init__(message)
        self.refused = refused


@contextmanager
def require_extra(what: str, packages: str, extra: str) -> Iterator[None]:
    """Turn the ImportError of an optional package into an error with its purpose and how to install it.

    Raises:
        UsageError: if an import fails.
    """
    try:
        yield
    except ImportError as error:
        raise UsageError(
            f"{what} needs {packages}, which must be installed ({error}); in the checkout: "
            f"pip install -c constraints.txt -e '.[{extra}]'"
        ) from error


_FILE = re.compile(r"(?:sqlite:/{0,2}(?!/))?([^:?#]+\.(?:db|sqlite3?))", re.IGNORECASE)
"""A SQLite file that is given without `sqlite:///`."""


def check_address(option: str, address: str) -> None:
    """Refuse an address that cannot be parsed, before a library does so and quotes a part of its password.

    Raises:
        UsageError: with how to escape such characters, or the address of what is a SQLite file.
    """
    if match := _FILE.fullmatch(address):
        raise UsageError(f"{option} must be an address, got {address}; write {option} sqlite:///{match[1]}")
    if hide_address_secrets(address) == NO_ADDRESS:
        raise UsageError(
            f"{option} must be an address or a path, got {NO_ADDRESS}; in a password write signs that part addresses "
            "as %XX: @ is %40, / is %2F, : is %3A, # is %23, ? is %3F"
        )


class ProblemListError(UsageError):
    """A usage error with several findings, reported together so that they can be fixed at once."""

    heading = "{problems}:"
    """`{problems}` becomes their number and noun, `{where}` their place."""

    def __init__(self, where: str, problems: Sequence[str], refused: str = "") -> None:
        self.where = where
        self.problems = tuple(problems)
        heading = self.heading.format(problems=format_count(len(self.problems), "problem"), where=where)
        super().__init__("\n".join([heading, *(f"  - {problem}" for problem in self.problems)]), refused)

    @classmethod
    def refuse(cls, where: str, problems: Sequence[str]) -> None:
        """Raise the error if there are problems."""
        if problems:
            raise cls(where, problems)


class DataError(ProblemListError):
    """The data set cannot be used as it is. `problems` lists every fault that was found."""

    heading = "{problems} in the data set {where}; nothing was trained:"


class ClassMapError(ProblemListError):
    """A class map cannot be used as it is. `problems` lists every mistake."""

    heading = "{problems} in the class map {where}; nothing was trained:"


class RequestError(ProblemListError):
    """Folders, files or amounts that this machine cannot serve. `problems` lists every fault that was found."""

    heading = "{where} cannot be begun, {problems}; nothing was trained:"


class SpaceError(ProblemListError):
    """The search space cannot be used as it is. Every problem begins with its key path."""

    heading = "{problems} in the search space {where}; nothing was trained:"


class ScriptError(ProblemListError):
    """A training script cannot be compared as it is. `problems` lists every fault that was found."""

    heading = "{problems} in the training script, {where}:"


class LossError(UsageError, ValueError):
    """A loss was requested with an invalid family, task or coordinate."""


class StudyError(UsageError):
    """The study cannot be opened as requested: it exists, does not exist, or was made under other conditions."""


class MissingStudyError(StudyError):
    """There is no such study, or not yet."""


class DamagedError(SweeperError):
    """A stored record is not as it was written: a disk, a copy or a hand changed it.

    `what` names the record, `why` is the evidence of the damage.
    """

    def __init__(self, what: str, why: str) -> None:
        super().__init__(
            f"{what} is damaged: {why}. A disk, a copy or a hand changed it. Restore a backup "
            "(`sweeper studies backup` makes them), or begin another study with --study"
        )


class CheckpointError(SweeperError):
    """The file of a paused training cannot be read, or belongs to another; the training starts from scratch."""


class ExecutorError(SweeperError):
    """The executor can do no more training. Finished results are kept, and the study can be resumed."""


class LostStudyError(SweeperError):
    """Another process has taken the study over."""

    def __init__(self, study: str, resume_command: str) -> None:
        super().__init__(
            f"the database forgot that this process runs study {study!r}, and another process runs it now. "
            "Everything finished is kept there; what was in work here may be shown as RUNNING until the study is "
            f"resumed the next time. Once the other has ended: {resume_command}"
        )


class NothingCompletedError(SweeperError):
    """No trial completed, so nothing can be recommended."""

    exit_status = 3


class OutputError(SweeperError):
    """Standard output does not accept the result, which is computed, and stored as usual."""


class NothingConfirmedError(SweeperError):
    """Trials completed, but no confirmation did: out of time, or all failed. Nothing can be recommended."""


class InterruptedSweepError(SweeperError):
    """A signal asked the sweep to stop; what is finished is kept and `--resume` continues."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


# --- The message of the library that failed ---

_STATEMENT = re.compile(r"\[SQL:.*|\(Background on this error at: .*")
"""SQLAlchemy's additions to a driver's message: the statement, and links to its documentation."""


def get_cause(error: BaseException, longest: int = 300) -> str:
    """Return the driver's message if a database failed, else the error's own, in one line of `longest` characters.

    Secrets are hidden. A longer text is shortened in the middle, because libraries name the reason last.
    """
    drivers = (getattr(one, "orig", None) for one in iterate_causes(error))
    raised = next((driver for driver in drivers if isinstance(driver, BaseException)), error)
    words = redact(_STATEMENT.sub("", " ".join(str(raised).split())).strip())
    if len(words) > longest:
        head, tail = words[: longest // 2 - 1], words[2 - longest // 2 :]
        begin, end = head.rpartition(" ")[0] or head, tail.partition(" ")[2]
        words = f"{begin} … {end or tail}"
    return words or type(raised).__name__


def iterate_causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error, the driver's error that SQLAlchemy wraps, the errors it was raised from, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        if isinstance(inner := getattr(error, "orig", None), BaseException):
            yield inner
        error = error.__cause__ or error.__context__
