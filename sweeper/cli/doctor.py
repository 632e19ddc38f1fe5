"""`sweeper doctor`: what is slow, missing or broken here."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sweeper.cli.options import SweeperCommand, add_json_option
from sweeper.cli.settings_options import make_setting_option

MARKS = {"ok": "ok    ", "note": "note  ", "slow": "slow  ", "broken": "BROKEN"}


@click.command(cls=SweeperCommand)
@make_setting_option("storage")
@make_setting_option("tracking_uri")
@make_setting_option("cache")
@make_setting_option("device")
@add_json_option()
def command(*, storage: str, tracking_uri: str, cache: Path, device: str, as_json: bool) -> int:
    """Look at versions, device, memory, disk and stores, and say what to do. Nothing is made or changed.

    The exit status is 1 where something is broken, else 0.
    """
    from sweeper.doctor import DoctorDocument, examine_machine

    checks = examine_machine(storage, tracking_uri, cache, device)
    broken = any(check.status == "broken" for check in checks)
    if as_json:
        click.echo(json.dumps(DoctorDocument(ok=not broken, checks=tuple(checks)).document, indent=2))
        return int(broken)
    width = max(len(check.name) for check in checks)
    for check in checks:
        click.echo(f"{MARKS[check.status]}  {check.name:{width}}  {check.found}")
        if check.advice:
            click.echo(f"{'':{width + 10}}→ {check.advice}")
    return int(broken)
