"""`sweeper status`: report how the sweeps are doing."""

from __future__ import annotations

import time

import click

from sweeper.cli.options import SweeperCommand, add_json_option
from sweeper.cli.settings_options import make_setting_option
from sweeper.cli.terminal import echo_result
from sweeper.core.text import suggest_correction


@click.command(cls=SweeperCommand)
@click.argument("study", required=False)
@make_setting_option("storage")
@add_json_option()
def command(study: str | None, *, storage: str, as_json: bool) -> int:
    """Say of STUDY (default: of every study of this storage) whether its sweep runs and makes progress.

    The exit status is 0 if all is well (running, finished, or stopped by a signal), 1 if somebody should look (the
    process is gone, silent for 5 minutes, 3 trainings in a row failed, an error ended it), and 2 if nothing is known.
    It reads `.sweeper/status` next to the SQLite file (else in the working folder), and does not open the database.
    """
    from sweeper.core.errors import UsageError, check_address
    from sweeper.system.locks import require_database_file
    from sweeper.system.postgres import is_postgres
    from sweeper.workflow.status import (
        StatusDocument,
        diagnose_sweep,
        get_status_file,
        get_status_folder,
        read_last_session,
        read_life,
    )

    check_address("--storage", storage)
    if not is_postgres(storage):
        require_database_file(storage)
    folder = get_status_folder(storage)
    files = sorted(folder.glob("*.json")) if study is None else [get_status_file(storage, study)]
    lives = [life for life in map(read_life, files) if life is not None]
    if not lives:
        names = [life.study for life in map(read_life, folder.glob("*.json")) if life is not None]
        near = suggest_correction(study, names) if study is not None else ""
        scope = f"of study {study!r}" if study is not None else "of any study"
        step = "run it in the folder of the sweep" if is_postgres(storage) else "name the --storage of the run"
        why = near or f": no sweep wrote its status there; {step}"
        raise UsageError(f"nothing is known {scope} in {folder}{why}")
    rows = [diagnose_sweep(life, time.time(), storage) for life in lives]
    if is_postgres(storage):  # it may have continued on another machine, which has its status file
        rows = [
            row if row.ok else diagnose_sweep(life, time.time(), storage, read_last_session(storage, life.study))
            for life, row in zip(lives, rows, strict=True)
        ]
    bad = not all(one.ok for one in rows)
    lines = []
    for one in rows:
        where = f", {one.phase} {one.done}/{one.total}" if one.total else f", {one.phase or 'preparing'}"
        mark = "PROBLEM" if one.problems else "silent " if one.quiet else "ok     "
        quiet = f", no sign of life for {one.silent_seconds:.0f} s" if one.quiet else ""
        lines.append(
            f"{mark}  {one.study}: {one.state}{'' if one.state == 'finished' else where}, last progress "
            f"{one.stalled_seconds:.0f} s ago{quiet} (process {one.pid} on {one.host})"
        )
        if one.answer:
            lines.append(f"         {'answer' if one.state == 'finished' else 'so far'}: {one.answer}")
        lines += [f"         → {problem}" for problem in one.problems]
    echo_result(StatusDocument(ok=not bad, studies=tuple(rows)), "\n".join(lines), as_json=as_json)
    return int(bad)
