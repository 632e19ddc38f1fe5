"""What the shell completes: names of commands, studies, spaces, encoders and losses. Quick: nothing heavy is loaded."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing

import click
from click.shell_completion import CompletionItem

from sweeper.core import paths
from sweeper.core.encoders import ENCODERS
from sweeper.system.locks import sqlite_file, sqlite_uri


def study_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Studies of the SQLite file that `--storage` names, the newest first; a server is not asked."""
    url = ctx.params.get("storage") or os.environ.get("SWEEPER_STORAGE") or paths.STORAGE
    path = sqlite_file(url)
    if path is None or not path.is_file():
        return []
    try:
        with closing(sqlite3.connect(sqlite_uri(path, "ro"), uri=True, timeout=1)) as connection:
            names = [str(row[0]) for row in connection.execute("SELECT study_name FROM studies ORDER BY study_id DESC")]
    except sqlite3.Error:
        return []
    return _beginning(names, incomplete)


def encoder_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Encoders of segmentation-models-pytorch."""
    return _beginning(ENCODERS, incomplete)


def space_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Shipped search spaces; what else begins so is a file."""
    names = sorted(path.stem for path in paths.search_spaces_dir().glob("*.yaml"))
    return _beginning(names, incomplete) or [CompletionItem(incomplete, type="file")]


def family_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Loss families."""
    from sweeper.losses.families import FAMILIES

    return _beginning(FAMILIES, incomplete)


def _beginning(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]
