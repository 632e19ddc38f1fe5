"""Every file name that sweeper uses, every page of MLflow that it links to, and how a file is opened, in one place."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import unicodedata
from functools import partial
from itertools import count
from pathlib import Path
from typing import BinaryIO, Literal
from urllib.parse import quote

STORAGE = "sqlite:///sweeper.db"
"""Optuna's default storage."""
TRACKING = "sqlite:///mlflow.db"
"""MLflow's default store, the same as MLflow's own: a bare `mlflow ui` in this folder shows everything."""
CACHE = Path(".sweeper") / "cache"
"""Decoded data sets, one folder per content digest."""
STATUS = Path(".sweeper") / "status"
"""Folder of the status files of running sweeps, one per study."""
COMPARISONS = Path(".sweeper") / "confirm"
"""Comparisons of losses in the user's script: a folder each, with a folder for each training."""
REPORTS = Path("reports")


def expand_user(text: str) -> Path:
    """Return a path with `~` and `~user` replaced if there is such a home."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 (pathlib's own raises where there is none)


def get_file_kind(mode: int) -> str:
    """Return the kind of a file by its mode: `regular file`, `folder`, `pipe`, `socket` or `device`."""
    kinds = {stat.S_IFREG: "regular file", stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
    return kinds.get(stat.S_IFMT(mode), "device")


def open_regular_file(path: Path) -> BinaryIO:
    """Open a file for reading: no pipe, on which this would wait, and no device, which may never end.

    Raises:
        OSError: it is not a regular file, or cannot be opened.
    """

    def open_regular(name: str, flags: int) -> int:
        number = os.open(name, flags | os.O_NONBLOCK)
        if (kind := get_file_kind(os.fstat(number).st_mode)) != "regular file":
            os.close(number)
            raise OSError(errno.EINVAL, f"a {kind}, no regular file", name)
        return number

    named = path.parts[:3] == ("/", "dev", "fd")  # a shell's <(…) is read; no link from a data folder leads there
    return open(path, "rb", opener=None if named else open_regular)


def read_bounded(path: Path, most: int) -> bytes:
    """Return the content of a regular file of at most `most` bytes.

    Raises:
        OSError: as `open_regular_file`.
        ValueError: if it is larger.
    """
    with open_regular_file(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    return content


def get_step_times_file(cache: Path) -> Path:
    """Return the file with this machine's times of training steps, next to the decoded data."""
    return cache.parent / "step-times.json"


def make_slug(text: str) -> str:
    """Make a name of only letters, digits, `.`, `_` and `-`, fit for files, metrics and study names.

    Never empty: text without any such character becomes `x`.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._-]+", "_", plain).strip("._-")[:80] or "x"


def make_class_slugs(classes: tuple[str, ...]) -> tuple[str, ...]:
    """Return distinct names of classes for folders and MLflow, which refuses a whole batch for one `|`, `&` or `(`."""
    result: list[str] = []
    for name in classes:
        base = make_slug(name).lower()
        free = (base if number == 1 else f"{base}-{number}" for number in count(1))
        result.append(next(one for one in free if one not in result))
    return tuple(result)


def make_folder_name(name: str) -> str:
    """Make a folder name: the slug, with six digits of the name's hash if the slug differs from the name.

    So distinct names have distinct folders, even names that differ only in case, which some file systems do not
    distinguish.
    """
    plain = make_slug(name)
    # Generated study names contain the capital T of a time stamp, the only exception.
    is_lower = name == name.lower() or re.fullmatch(r"[a-z0-9._-]+-\d{8}T\d{6}(-\d+)?", name)
    if plain == name and is_lower:
        return plain
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def search_spaces_dir() -> Path:
    """Return the folder of the shipped search spaces: inside the package (wheel) or next to it (editable install)."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "_search_spaces"
    return inside if inside.is_dir() else package.parent / "search_spaces"


class ReportPaths:
    """Paths of the files of a report: of a study or comparison in `OUT/NAME`, of a judgement in `OUT` itself."""

    def __init__(self, out: Path, name: str = "") -> None:
        self.folder = out / make_folder_name(name) if name else out
        self.markdown = self.folder / "report.md"
        self.html = self.folder / "report.html"
        self.recommendation = self.folder / "recommendation.json"
        self.trials = self.folder / "trials.csv"
        self.trainings = self.folder / "trainings.csv"
        self.loss = self.folder / "loss.py"
        self.split = self.folder / "split.csv"
        self.figures = self.folder / "figures"


View = Literal["sweep", "search", "finalists"]
"""Views of a sweep: all trainings, or only trials, by the validation score; confirmations by the test score."""

_WORKFLOW = "workflowType=machine_learning"
"""Without it MLflow 3 may open its page for traces of language models."""


def get_view_place(experiment: str, view: View = "sweep", *, charts: bool = False) -> str:
    """Return the address of a prepared view of a sweep: of its table or its charts."""
    mode = "&compareRunsMode=CHART" if charts else ""
    return f"#/experiments/{quote(experiment, safe='')}/runs?viewStateShareKey={view}&{_WORKFLOW}{mode}"


def format_view_links(experiment: str) -> str:
    """Format links to the views of a sweep, relative as one server may have many names, for its description."""
    place = partial(get_view_place, experiment)
    search, finalists = place("search", charts=True), place("finalists", charts=True)
    return (
        f"[All trainings]({place()}) · [finalists]({place('finalists')}) · charts of [the search]({search}) and [the "
        f"finalists]({finalists})"
    )


def get_experiments_place() -> str:
    """Return the address of the list of experiments."""
    return f"#/experiments?{_WORKFLOW}"
