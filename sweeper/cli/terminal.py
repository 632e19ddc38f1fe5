"""Lines on a terminal, broken between words, where the terminal would break them within a word."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from sweeper.core.text import fill_words, get_width

if TYPE_CHECKING:
    from sweeper.core.document import Document
    from sweeper.workflow.conclude import ReportedStudy


def echo_lines(text: str, *, err: bool = False) -> None:
    """Print lines; on a terminal, wrap long ones with their rest indented by two columns.

    Commands of sweeper stay on one line, to be pasted. Other outputs get all lines unchanged.
    """
    if (sys.stderr if err else sys.stdout).isatty():
        width = get_width(sys.maxsize)
        text = "\n".join(_break_line(line, width) for line in text.split("\n"))
    click.echo(text, err=err)


def echo_result(document: Document, text: str, *, as_json: bool) -> None:
    """Print the result of a command: with `--json` only its document, else its text."""
    if as_json:
        click.echo(json.dumps(document.document, indent=2, allow_nan=False))
    else:
        echo_lines(text)


def format_ending(outcome: ReportedStudy) -> str:
    """Format the answer of a study for a terminal, with the place of its report."""
    from sweeper.evidence.answer_text import format_answer

    place = f"Report: {outcome.paths.markdown}, with the code to paste (report.html next to it)"
    return format_answer(outcome.document, get_width(), places=[place])


def _break_line(line: str, width: int) -> str:
    indent = len(line) - len(line.lstrip(" ")) + 2
    is_kept = len(line) <= width or line.lstrip().startswith("sweeper ")
    return line if is_kept else fill_words(line, width, rest=" " * indent)
