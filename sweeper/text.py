"""Words that several rooms write alike: lists and numbers in sentences for people."""

from __future__ import annotations

import shlex
from collections.abc import Sequence


def resume_command(study: str) -> str:
    """The command that goes on with a study."""
    return f"sweeper run --study {shlex.quote(study)} --resume"


def listed(items: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`; empty of nothing."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def minus(text: str) -> str:
    """Formatted numbers with a true minus sign, as the tables of the report have it."""
    return text.replace("-", "−")


def shortened(name: str, longest: int) -> str:
    """A name of at most `longest` characters (≥ 3): a longer one has an ellipsis in its middle."""
    half = (longest - 1) // 2
    return name if len(name) <= longest else f"{name[: longest - 1 - half]}…{name[-half:]}"


def count(n: int, noun: str) -> str:
    """`1 trial`, `3 trials`, `2 families`."""
    if n == 1:
        return f"1 {noun}"
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{n:,} {plural}"
