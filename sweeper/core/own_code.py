"""The user's code, given as `module:function`: finding it, checking that it is unchanged, and importing it."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from sweeper.core.base import Record
from sweeper.core.errors import UsageError, get_cause

_LOADED: dict[Path, str] = {}
"""Digests of the source files that this process has imported, by path."""


class UserCode(Record):
    """The user's function or class, and the digest of its source."""

    name: str
    """`module:function`."""
    digest: str
    """SHA-256 of the module's source file; what the module itself imports is not part of it."""
    folder: str
    """Working folder of the run, where the module is looked for first; not compared."""

    @property
    def module(self) -> str:
        """The module's name."""
        return self.name.partition(":")[0]

    @property
    def function(self) -> str:
        """The function's name in it."""
        return self.name.partition(":")[2]


def find_code(name: str, option: str, folders: tuple[Path, ...] | None = None) -> UserCode:
    """Find the module of `module:function` without importing it (the package that contains it is imported).

    It is looked for in `folders`, by default the working folder, and then on Python's own path.

    Raises:
        UsageError: if the name has another form, or the module is missing.
    """
    module, _, function = name.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), function)):
        raise UsageError(
            f"{option} must be module:function, a module of the working folder or of Python's path and a function in "
            f"it, got {name!r}; for example my_code:build",
            refused=name,
        )
    looked = folders or (Path.cwd(),)
    source = _find_source(module, looked, f"{option} {name}")
    return UserCode(name=name, digest=_compute_digest(source), folder=str(looked[0].absolute()))


def locate_code(stored: UserCode, option: str) -> UserCode:
    """Find the same code with its present source: in the working folder, or in that of the run.

    Raises:
        UsageError: if it is missing.
    """
    return find_code(stored.name, option, (Path.cwd(), Path(stored.folder)))


def load_code(code: UserCode, what: str) -> Callable[..., Any]:
    """Import the user's function.

    Raises:
        UsageError: if it cannot be imported, is no function, or its source has changed.
    """
    folders = (Path(code.folder), Path.cwd())
    source = _find_source(code.module, folders, f"{what} {code.name}")
    if _compute_digest(source) != code.digest:
        raise UsageError(
            f"{what} {code.name} must be what it was: {source} has changed since (SHA-256 {code.digest[:12]}…, now "
            f"{_compute_digest(source)[:12]}…); put it back as it was, or begin another study or training"
        )
    try:
        if _LOADED.get(source) != code.digest and any(source.is_relative_to(folder) for folder in folders):
            sys.modules.pop(code.module, None)  # its source was edited since this process imported it
        with _put_first_on_path(folders), redirect_stdout(sys.stderr):  # its output must not mix with results
            function = getattr(importlib.import_module(code.module), code.function, None)
    except (Exception, SystemExit) as error:  # a script may exit while it is imported
        raise UsageError(
            f"{what} {code.name} must be importable: importing {code.module} failed: {format_error_line(error)}"
        ) from error
    _LOADED[source] = code.digest
    if not callable(function):
        raise UsageError(
            f"{what} {code.name} must name a function or class, and {source} has "
            + (f"no {code.function}" if function is None else f"{code.function} = {type(function).__name__}")
        )
    return function  # type: ignore[no-any-return]


def refuse_user_code(problems: Sequence[str], option: str, code: UserCode, use: str) -> None:
    """Refuse the user's function if it has any problems; `use` is a participle for the message.

    Raises:
        UsageError: with all of the problems.
    """
    if problems:
        rows = [f"{option} {code.name} cannot be {use}; nothing was trained:", *(f"  - {text}" for text in problems)]
        raise UsageError("\n".join(rows))


def format_error_line(error: BaseException) -> str:
    """Format an error of the user's code on one line, with its place."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {get_cause(error)}{where}"


def _compute_digest(source: Path) -> str:
    return hashlib.sha256(source.read_bytes()).hexdigest()


def _find_source(module: str, folders: tuple[Path, ...], what: str) -> Path:
    """Return the file of a module that may have been imported already.

    Raises:
        UsageError: if there is none, as of a package that fails to import; the message begins with `what`.
    """
    origin = None
    with suppress(Exception), _put_first_on_path(folders):
        importlib.invalidate_caches()
        origin = getattr(importlib.util.find_spec(module), "origin", None)
    if origin is None or not Path(origin).is_file():
        where = " or ".join(dict.fromkeys(map(str, folders)))
        raise UsageError(
            f"{what} must name a module that can be imported, and there is no {module} in {where} or on Python's path; "
            "copy its file there, or set PYTHONPATH"
        )
    return Path(origin)


@contextmanager
def _put_first_on_path(folders: tuple[Path, ...]) -> Iterator[None]:
    """Put folders first on the module path while a module is imported, as for a script, and last afterwards.

    The module's later imports still work, and no file there replaces a library's module.
    """
    added = [str(folder) for folder in dict.fromkeys(folders) if folder.is_dir()]
    before = [place for place in sys.path if place not in added]
    sys.path[:] = [*added, *before]
    try:
        yield
    finally:
        sys.path[:] = [*(place for place in sys.path if place not in added), *added]
