"""Lines on a terminal, which would break a long one within a word: here it is broken between words."""

from __future__ import annotations

import shutil
import sys

import click

from sweeper.core.text import fill_words


def get_width(most: int = 110) -> int:
    """Return the columns of the terminal, at most `most`; 100 where there is none."""
    return min(most, shutil.get_terminal_size((100, 24)).columns)


def echo_lines(text: str, *, err: bool = False) -> None:
    """Print lines; those longer than the terminal is wide continue two columns further to the right.

    What is no terminal gets them as they are.
    """
    if (sys.stderr if err else sys.stdout).isatty():
        width = get_width(sys.maxsize)
        text = "\n".join(_break_line(line, width) for line in text.split("\n"))
    click.echo(text, err=err)


def _break_line(line: str, width: int) -> str:
    indent = len(line) - len(line.lstrip(" ")) + 2
    return line if len(line) <= width else fill_words(line, width, rest=" " * indent)
