"""Format problems for users: many of one kind become one line, with their number and two files.

Addresses in place of local files are refused here, too.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from sweeper.core.errors import DataError
from sweeper.core.redact import hide_address_secrets
from sweeper.core.text import escape_for_display

ONE_BY_ONE = 3
"""Most problems of one kind that are listed one by one; more share a line."""
_VARIES = re.compile(
    r"'(?:[^'\\]|\\.)*'|[^\s'(),;]+\.(?:png|jpe?g|bmp|tiff?|webp|gif|txt|json)\b|\d+(?:\.\d+)?", re.IGNORECASE
)

_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):/(?P<rest>/.*|[^/].*)", re.DOTALL)
"""Also with one slash, to which `pathlib.Path` reduces two."""


def group_problems(problems: Sequence[str]) -> list[str]:
    """Return the problems, each once, sorted and printable; more than `ONE_BY_ONE` of one kind become one line.

    Problems are of one kind if they differ only in file names, numbers (of a line, too) and quoted text. Their line has
    the first problem, the number of problems and two files.

    Args:
        problems: as readers collect them: `FILE: rule, value found; next step`, or `FILE: line N: …`.
    """
    kinds: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for problem in set(map(escape_for_display, problems)):
        file, colon, text = problem.partition(": ")
        file, text = (file, text) if colon else ("", problem)
        stem = PurePosixPath(file).stem  # may hold spaces
        kinds[_VARIES.sub("#", text.replace(f"{stem}.", "#."))].append((file, text))
    lines: list[str] = []
    for same_kind in kinds.values():
        same_kind.sort(key=lambda one: (one[0], [int(number) for number in re.findall(r"[0-9]+", one[1])], one[1]))
        texts = [f"{file}: {text}" if file else text for file, text in same_kind]
        files = [*dict.fromkeys(file for file, _ in same_kind)]
        if len(same_kind) <= ONE_BY_ONE:
            lines += texts
        elif len(files) == 1:
            lines.append(f"{texts[0]} (and {len(same_kind) - 1} more like it)")
        else:
            faults = f"{len(same_kind)} faults in " if len(same_kind) > len(files) else ""
            lines.append(f"{faults}{len(files)} files, e.g. {files[0]}, {files[1]}: {same_kind[0][1]}")
    return sorted(lines)


def check_no_address(option: str, text: str) -> None:
    """Refuse an address (`s3://bucket/x`, also `s3:/bucket/x`) where a local file or folder is expected.

    Raises:
        DataError: `option` got an address; the message hides its secrets.
    """
    if match := _ADDRESS.fullmatch(text):
        name = hide_address_secrets(f"{match['scheme']}://{match['rest'].removeprefix('/')}")
        step = "copy what it names, or mount what holds it, and name that folder"
        if name.lower().startswith("file:"):
            step = "write its path alone, without file://"
        raise DataError(name, [f"{option} must name a file or folder of this machine; {name} is an address: {step}"])
