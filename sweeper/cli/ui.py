"""`sweeper ui`: MLflow's own user interface on this store, for this machine only."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import click

from sweeper.cli.options import SweeperCommand
from sweeper.core import paths
from sweeper.core.errors import UsageError
from sweeper.core.redact import redact
from sweeper.system.postgres import sqlalchemy_url


@click.command(cls=SweeperCommand)
@click.option(
    "--tracking-uri", envvar=["SWEEPER_TRACKING_URI", "MLFLOW_TRACKING_URI"], default=paths.TRACKING, show_default=True
)
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
def command(tracking_uri: str, port: int) -> None:
    """Serve MLflow's user interface on the loopback address until Ctrl-C."""
    if tracking_uri.startswith(("http://", "https://")):
        raise UsageError(f"{redact(tracking_uri)} is a server with a user interface of its own; open it in a browser")
    if tracking_uri.startswith("sqlite:///") and not Path(tracking_uri.removeprefix("sqlite:///")).exists():
        raise UsageError(f"there is no MLflow store at {tracking_uri}; `sweeper run` makes one in its working folder")
    _check_port(port)
    # Without the parameter MLflow 3 opens its pages for language models.
    address = f"http://127.0.0.1:{port}/#/experiments?workflowType=machine_learning"
    click.echo(f"starting MLflow's user interface, about 15 s (Ctrl-C ends it): {address}", err=True)
    # In the environment, not on the command line: that everybody on this machine can read.
    environment = {**os.environ, "MLFLOW_BACKEND_STORE_URI": sqlalchemy_url(tracking_uri)}
    arguments = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # Names that a browser on this machine uses, so that no foreign page can reach the server by rebinding a name.
    arguments += ["--allowed-hosts", f"127.0.0.1:{port},localhost:{port}"]
    arguments += ["--cors-allowed-origins", f"http://127.0.0.1:{port},http://localhost:{port}"]
    os.execve(sys.executable, [sys.executable, "-m", "mlflow", "ui", *arguments], environment)


def _check_port(port: int) -> None:
    """Refuse a port that cannot be listened on: MLflow takes its time to find out, and then ends as if all were well.

    Raises:
        UsageError: with what is in the way, and a port that is free.
    """
    try:
        _listen(port)
    except OSError as error:
        raise UsageError(
            f"--port must be a port of this machine that nobody listens on, got {port} ({error.strerror}). Is the user "
            f"interface open already, at http://127.0.0.1:{port}? If not: sweeper ui --port {_listen(0)}"
        ) from error


def _listen(port: int) -> int:
    """Listen on a port for a moment; 0 = any that is free. Its number."""
    with socket.socket() as probe:
        if os.name == "posix":  # as the server does: else a port whose last connection was just closed counts as taken
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        probe.listen(1)
        found: int = probe.getsockname()[1]
        return found
