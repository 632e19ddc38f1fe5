"""`sweeper doctor`: report what is slow, missing or broken here."""

from __future__ import annotations

from pathlib import Path

import click

from sweeper.cli.options import SweeperCommand, add_json_option
from sweeper.cli.settings_options import make_setting_option
from sweeper.cli.terminal import echo_result

MARKS = {"ok": "ok    ", "note": "note  ", "slow": "slow  ", "broken": "BROKEN"}


@click.command(cls=SweeperCommand)
@make_setting_option("storage")
@make_setting_option("tracking_uri")
@make_setting_option("cache")
@make_setting_option("device")
@add_json_option()
def command(*, storage: str, tracking_uri: str, cache: Path, device: str, as_json: bool) -> int:
    """Check versions, device, memory, disk and stores, and say what to do. Nothing is created or changed.

    The exit status is 1 if something is broken, else 0.
    """
    from sweeper.doctor import DoctorDocument, check_libraries, check_machine, check_stores

    checks = [*check_libraries(), *check_machine(cache, device), *check_stores(storage, tracking_uri)]
    broken = any(check.status == "broken" for check in checks)
    width, lines = max(len(check.name) for check in checks), []
    for check in checks:
        lines.append(f"{MARKS[check.status]}  {check.name:{width}}  {check.found}")
        lines += [f"{'':{width + 10}}→ {check.advice}"] if check.advice else []
    echo_result(DoctorDocument(ok=not broken, checks=tuple(checks)), "\n".join(lines), as_json=as_json)
    return int(broken)
