"""Entry point: find the command, run it, and turn errors into messages and an exit status."""

from __future__ import annotations

import importlib
import io
import json
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

import click

from sweeper.cli.signals import end_like_ctrl_c
from sweeper.cli.slips import explain_option, explain_place
from sweeper.cli.terminal import echo_lines
from sweeper.core.errors import OutputError, SweeperError, get_cause
from sweeper.core.redact import redact
from sweeper.core.text import suggest_meaning, suggest_or_list
from sweeper.system.machine import explain_machine_limit
from sweeper.system.streams import check_output, make_streams_tolerant
from sweeper.version import __version__

COMMANDS = {
    "run": "Search, confirm, recommend: the whole flow.",
    "confirm": "Compare losses in a training script of your own.",
    "probe": "Whether losses can be compared in a training script of your own.",
    "judge": "The verdict on runs that were trained elsewhere, from a table of their scores.",
    "profile": "Imbalance, label problems, and what won on data like these; no training.",
    "report": "Write a study's report again.",
    "export": "Write the recommended loss, and weights trained with it, as files.",
    "train": "Train the recommended configuration to the end.",
    "predict": "Masks and overlays of new images, by the recommended network.",
    "studies": "List studies, say how they are doing, delete, back up and synchronise them.",
    "losses": "List the loss families that can be searched.",
    "ui": "Open MLflow's user interface on this store.",
    "synth": "Write a synthetic scene set as ordinary files.",
    "doctor": "Versions, device and stores: what is broken here.",
}
"""Each command is `command` in `sweeper.cli.NAME`, which is imported only when it is used."""

TRUE = {"1", "true", "yes", "on", "t", "y"}
"""Values of an environment variable that set a flag."""

RESUME = ("sweeper run --study ", "sweeper confirm --study ")
"""Beginnings of the exception notes with the command that continues a sweep or a comparison."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, so that `sweeper --help` is fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the names in the order of the workflow."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; None if it does not exist."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"sweeper.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        command.name = cmd_name
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Explain an option of a command that is given before it."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise click.UsageError(
                f"no such option, {error.option_name}{explain_option(error.option_name, self)}", ctx
            ) from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command.

        Raises:
            click.UsageError: if it does not exist, with a similar name.
        """
        if args[0] not in COMMANDS:
            ctx.fail(f"no such command, {args[0]!r}{self._explain(args[0], ctx)}")
        return super().resolve_command(ctx, args)

    def _explain(self, word: str, ctx: click.Context) -> str:
        """Return the end of the sentence that refuses a command: what is near to it, or all commands."""
        meanings = {
            name: f"sweeper studies {name}" for name in getattr(self.get_command(ctx, "studies"), "commands", ())
        }
        meanings |= {name: name for name in COMMANDS} | {name: f"sweeper --{name}" for name in ("help", "version")}
        everything = suggest_or_list("", COMMANDS)
        return suggest_meaning(word, meanings) or explain_place(word, [""], otherwise=everything)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list from `COMMANDS`, without importing the commands."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sweeper")
def cli() -> None:
    """Find the loss to train your segmentation model with, on your data, and how sure that is.

    `sweeper run FOLDER` (with images/ and masks/) searches over losses, confirms the best on a locked test
    split, and writes reports/STUDY/report.md. Every option can be set by a variable: SWEEPER_TRIALS=20.
    """


def _end_with_error(
    kind: str, message: str, status: int, *, shown: str = "", problems: Sequence[str] = (), as_json: bool = True
) -> NoReturn:
    """Print an error, or `shown` in its place, and exit; with `--json` also print the schema `sweeper.error/1`."""
    echo_lines(redact(shown or f"sweeper: {message}"), err=True)
    asks_json = "--json" in sys.argv[1:] or os.environ.get("SWEEPER_JSON", "").lower() in TRUE
    if as_json and asks_json:
        from sweeper.core.document import ErrorDocument, ErrorRow

        error = ErrorRow(kind=kind, message=redact(message), problems=tuple(map(redact, problems)))
        with suppress(OSError):
            click.echo(json.dumps(ErrorDocument(exit_status=status, error=error).document))
    sys.exit(status)


def main() -> None:
    """Run the command line and exit with the contract's status."""
    make_streams_tolerant()
    os.environ.pop("MPLBACKEND", None)  # figures are files; matplotlib cannot be imported with an unknown backend
    try:
        with end_like_ctrl_c():
            status = cli.main(standalone_mode=False)
        check_output()
        sys.exit(status if isinstance(status, int) else 0)
    except SweeperError as error:
        accepts = not isinstance(error, OutputError)  # an output that does not accept the result accepts no error
        problems = getattr(error, "problems", ())
        _end_with_error(type(error).__name__, str(error), error.exit_status, problems=problems, as_json=accepts)
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        _end_with_error("UsageError", error.format_message(), 2, shown=shown.getvalue().rstrip("\n"))
    except (click.Abort, KeyboardInterrupt) as error:
        _end_with_error("InterruptedSweepError", "stopped", getattr(error.__cause__ or error, "status", 130))
    except Exception as error:
        kind, notes, is_run = type(error).__name__, getattr(error, "__notes__", []), sys.argv[1:2] == ["run"]
        resume = [f" What was finished is kept, and this continues it: {n}." for n in notes if n.startswith(RESUME)]
        kept = "".join(resume[:1])
        if words := explain_machine_limit(error):
            _end_with_error(kind, f"{words}.{kept}", 1)
        if {"-v", "--verbose"} & set(sys.argv):
            click.echo(redact(traceback.format_exc()), err=True)
        text = get_cause(error, 500)
        kept += " -v shows where it happened." * is_run
        words = f"sweeper: unexpected {kind}: {text}. This is a mistake in sweeper.{kept}"
        _end_with_error(kind, text, 1, shown=words)


if __name__ == "__main__":
    main()
