"""`sweeper ui`: MLflow's own user interface on this store, for this machine only, at the table of a sweep."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing, suppress
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import TemporaryFile
from urllib.parse import urlsplit

import click

from sweeper.cli.options import SweeperCommand
from sweeper.cli.settings_options import make_setting_option
from sweeper.core.errors import SweeperError, UsageError
from sweeper.core.paths import get_experiments_place, get_view_place
from sweeper.core.redact import hide_address_secrets
from sweeper.core.text import format_comparison_resume_command, format_places, format_sync_command, suggest_or_list
from sweeper.system.postgres import make_sqlalchemy_url

LAST_LINES = 20
"""Lines of the server's log that are shown if it ends."""


@click.command(cls=SweeperCommand)
@click.argument("study", required=False)
@make_setting_option("tracking_uri")
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
def command(study: str | None, tracking_uri: str, port: int) -> None:
    """Serve MLflow's user interface on the loopback address until Ctrl-C, and say where STUDY's table is.

    Without STUDY it is the table of the newest study. If the store is a server, only the addresses are printed.
    """
    if tracking_uri.startswith(("http://", "https://")):
        parts = urlsplit(tracking_uri)  # a browser is given no password
        base = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
        click.echo(_list_addresses(base, tracking_uri, study))
        return
    if tracking_uri.startswith("sqlite:///") and not Path(tracking_uri.removeprefix("sqlite:///")).exists():
        raise UsageError(f"there is no MLflow store at {tracking_uri}; `sweeper run` makes one in its working folder")
    try:  # MLflow takes long to find out, and then ends without an error
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        raise UsageError(
            f"--port must be a port of this machine that nobody listens on, got {port} ({error.strerror}). Is the user "
            f"interface open already, at http://127.0.0.1:{port}? If not, name another port"
        ) from error
    addresses = _list_addresses(f"http://127.0.0.1:{port}", tracking_uri, study)
    click.echo("starting MLflow's user interface (Ctrl-C ends it)", err=True)
    # Not on the command line, which everybody on this machine can read.
    environment = {**os.environ, "MLFLOW_BACKEND_STORE_URI": make_sqlalchemy_url(tracking_uri), "PYTHONSAFEPATH": "1"}
    arguments = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # Names used by a browser on this machine, so that no foreign page can reach the server by DNS rebinding.
    arguments += ["--allowed-hosts", f"127.0.0.1:{port},localhost:{port}"]
    arguments += ["--cors-allowed-origins", f"http://127.0.0.1:{port},http://localhost:{port}"]
    # Else uvicorn puts the working folder first on Python's path, where a file among the data may hide a module.
    arguments += ["--uvicorn-opts", f"--app-dir {os.devnull}"]
    with TemporaryFile() as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "ui", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            while server.poll() is None and not _is_answering(port):
                time.sleep(0.2)
            if server.poll() is None:
                away = f"ssh -N -L {port}:127.0.0.1:{port} {socket.gethostname()}"
                click.echo(f"{addresses}\n  from another computer, the same addresses after: {away}", err=True)
            server.wait()
            log.seek(0)
            last = "\n".join(log.read().decode(errors="replace").splitlines()[-LAST_LINES:])
            raise SweeperError(f"MLflow's user interface ended; its last lines:\n{last}")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)


def _is_answering(port: int) -> bool:
    with suppress(OSError, HTTPException), closing(HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    return False


def _list_addresses(base: str, tracking_uri: str, study: str | None) -> str:
    """List the addresses to open, one per line.

    Raises:
        UsageError: if the store does not answer, or does not have the named study.
    """
    from sweeper.tracking import list_prepared_studies

    prepared = list_prepared_studies(tracking_uri)
    if study not in {None, *prepared}:
        near, sync = suggest_or_list(str(study), prepared), format_sync_command("STUDY", tracking=tracking_uri)
        raise UsageError(
            f"STUDY must be one that MLflow at {hide_address_secrets(tracking_uri)} has, with its views, got {study!r}"
            f"{near}. To write another one there: {sync}. To write a comparison: "
            f"{format_comparison_resume_command('STUDY', format_places(tracking_uri))}"
        )
    everything = f"  all studies: {base}/{get_experiments_place()}"
    if not prepared:
        return everything
    name = study or next(iter(prepared))
    place = partial(get_view_place, prepared[name])
    return (
        f"  {name}: {base}/{place()}\n  its charts: {base}/{place('search', charts=True)}\n"
        f"  its finalists: {base}/{place('finalists')}\n{everything}"
    )
