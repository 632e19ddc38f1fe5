"""`sweeper doctor`: what is slow, missing or broken here."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from sweeper.cli.options import SweeperCommand
from sweeper.core import paths
from sweeper.core.text import count, resume_command

MARKS = {"ok": "ok    ", "note": "note  ", "slow": "slow  ", "broken": "BROKEN"}


@click.command(cls=SweeperCommand)
@click.option("--storage", default=paths.STORAGE, show_default=True, help="Optuna's storage.")
@click.option(
    "--tracking-uri", envvar=["SWEEPER_TRACKING_URI", "MLFLOW_TRACKING_URI"], default=paths.TRACKING, show_default=True
)
@click.option("--cache", type=click.Path(file_okay=False, path_type=Path), default=paths.CACHE, show_default=True)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True)
@click.option("--repair", metavar="STUDY", help="Take what is damaged out of a study; a resume trains it again.")
@click.option("--json", "as_json", envvar="SWEEPER_JSON", is_flag=True, help="Print one JSON document alone.")
def command(*, storage: str, tracking_uri: str, cache: Path, device: str, repair: str | None, as_json: bool) -> int:
    """Look at versions, device, memory, disk and stores, and say what to do. Nothing is made or changed.

    With --repair STUDY: nothing of this, but damaged records are taken out of the study. Stop its sweep before. A
    SQLite database as it was is kept beside it; of a PostgreSQL database nothing is kept: run pg_dump before.

    The exit status is 1 where something is broken, else 0.
    """
    if repair is not None:
        return _repair(storage, repair, as_json)
    from sweeper.doctor import examine

    checks = examine(storage, tracking_uri, cache, device)
    broken = any(check.status == "broken" for check in checks)
    if as_json:
        from sweeper.doctor.check import DoctorDocument

        click.echo(json.dumps(DoctorDocument(ok=not broken, checks=tuple(checks)).document, indent=2))
        return int(broken)
    width = max(len(check.name) for check in checks)
    for check in checks:
        click.echo(f"{MARKS[check.status]}  {check.name:{width}}  {check.found}")
        if check.advice:
            click.echo(f"{'':{width + 10}}→ {check.advice}")
    return int(broken)


def _repair(storage: str, name: str, as_json: bool) -> int:
    from sweeper.storage.repair import repair

    done = repair(storage, name, datetime.now(UTC))
    if as_json:
        from sweeper.cli.documents import DamagedRow, RepairDocument

        document = RepairDocument(
            study=name,
            found=tuple(DamagedRow(record=damage.what, why=damage.why) for damage in done.found),
            queued=done.requeued,
            kept=None if done.kept is None else str(done.kept),
            rows_lost=done.lost,
        )
        click.echo(json.dumps(document.document, indent=2))
        return 0
    for table, rows in done.lost.items():
        click.echo(f"the file was made anew; rows of {table} that could not be read: at least {rows}")
    for damage in done.found:
        click.echo(f"taken out: {damage.what}: {damage.why}")
    if not done.found:
        click.echo(
            f"study {name}: every record is whole" if done.kept is None else f"study {name}: all that is left is whole"
        )
    if done.kept is not None:
        click.echo(f"the database as it was: {done.kept}")
    if done.found or done.kept is not None:
        queued = count(done.requeued, "trial is", "trials are")
        click.echo(f"{queued} queued again. Next: {resume_command(name, storage)} trains what is missing")
    return 0
