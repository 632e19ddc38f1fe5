"""The rows of a table of scores: the request, the columns as arrays, and the problems of single rows."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sweeper.core.errors import ProblemListError
from sweeper.core.paths import TRACKING
from sweeper.core.text import join_words, suggest_correction
from sweeper.evidence.intervals import Floats
from sweeper.judging.row_choice import parse_number
from sweeper.judging.wide_table import suggest_melt

KEYS = ("method", "seed", "image", "group", "class", "fold")
"""Columns that identify a score; only `method` is required."""
COUNTS = ("tp", "fp", "fn")
OF_COUNTS = {"miou": "mIoU", "dice": "mean Dice"}
"""Metrics that can be computed from tp, fp and fn (`--metric`)."""
_FOLDS = re.compile(
    r"\W*(?:(?:cv|k|outer|inner|test|cross.?val\w*)[\W_]*)?(?:folds?|splits?|cv)(?:[\W_]*(?:id|idx|index|no|nr|number))?\W*",
    re.IGNORECASE,
)
_SIDES = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
"""Values of a column `split` that are no folds."""
MAX_LISTED = 3
"""Number of rows, images or runs that a problem lists."""

Columns = Mapping[str, Sequence[Any]]


class ScoresError(ProblemListError):
    """The scores cannot be judged as they are. `problems` lists every fault that was found."""

    heading = "{problems} in the scores of {where}; nothing was judged:"


@dataclass(frozen=True)
class ScoreRows:
    """Rows as read."""

    columns: Columns
    """Name → one entry per row, all of one length; None and empty texts are missing values."""
    source: str
    """Display name of the source."""
    notes: tuple[str, ...] = ()
    """Remarks of the reader."""
    metric: str | None = None
    """Metric that is judged unless another is requested."""
    undefined: bool = False
    """Whether NaN means that a class is left out of its image, rather than a mistake."""
    design: str | None = None
    """How the runs were tuned and seeded, in a sentence; None = unknown, which becomes a caveat."""
    folds: int = 1
    """Trainings in each run over all images, if no column identifies them."""


@dataclass(frozen=True)
class ScoreRequest:
    """Settings of a judgement, in addition to the table's rows."""

    metric: str | None = None
    """Column of the scores, or metric computed from tp, fp and fn."""
    baseline: str | None = None
    margin: float | None = None
    """Margin in the metric's own unit; None = 0.01 if all scores are in 0–1."""
    lower_is_better: bool | None = None
    """None = not given: higher is better, unless the metric's name suggests the opposite, which is a problem."""
    paired_seeds: bool = False
    """Whether a seed is the same condition for all methods."""
    common: bool = False
    """Whether images without a score for some run are left out, instead of being a problem."""
    level: float = 0.95
    claim: str | None = None
    """Claim to check in addition, such as `B > A by 0.005`."""
    keeps_baseline: bool = False
    """Whether the baseline is recommended unless another has beaten it."""
    at: str | None = None
    """Row of a training's log that has its score (`sweeper.judging.row_choice`); None = the last."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Key → name of its column, if that is another."""
    tracking_uri: str = TRACKING
    """Store of MLflow's experiments."""
    where: Mapping[str, str] = field(default_factory=dict)
    """Filter of the runs: parameter, tag or `status` (in wandb key of the config or `state`) → required value."""


def explain_folds(folds: int) -> str:
    """Explain what an interval covers if a run consists of this number of folds."""
    return (
        "The folds together are one training over all images. That other divisions into folds may rank the methods "
        "differently is in an interval only where each seed has its own. What other training images would change is "
        f"there by an approximation: of K folds the images' part is multiplied by K/(K − 1), here K = {folds}."
    )


class Rows:
    """The columns as arrays, and the problems of single rows."""

    def __init__(self, scores: ScoreRows, request: ScoreRequest) -> None:
        score = request.metric or scores.metric or "score"
        columns = _match_columns(scores.columns, {*KEYS, *COUNTS, *request.columns.values(), score})
        self.titles = dict(zip(columns, scores.columns, strict=True))
        """Name of each column → its name in the input."""
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.folds: int | None = None
        """Number of folds that divide the images, if scores are given by fold; None = there are no such scores."""
        self.folds_of_run = scores.folds
        """Number of folds whose trainings together make a run over all images; 1 = a run is one training."""
        self.keys: dict[str, npt.NDArray[np.str_]] = {}
        """Key → (rows,) texts, for the keys that have a column."""
        self.others: Columns = {}
        """Columns that are neither keys nor scores."""
        self.numbers = np.zeros((0, 0))
        """(1, rows) scores, or (3, rows) tp, fp and fn; empty if there are `problems`."""
        self.of_counts = score not in columns and all(name in columns for name in COUNTS)
        names = {key: request.columns.get(key, key) for key in KEYS}
        for key, name in names.items():
            if (key == "method" or key in request.columns) and name not in columns:
                near = suggest_correction(name, columns) or f"; the columns are {join_words(list(columns))}"
                if key == "method" and "?" not in near:
                    is_long = score in columns or self.of_counts
                    melt = "" if is_long else self._suggest_melt(columns, names, request)
                    near += melt or "; name it with --column method=NAME"
                self.problems.append(f"a column {name!r} must say the {key} of each row, got none{near}")
        self._check_score_column(columns, score, request, names)
        self._find_folds(columns, names, score, chosen="fold" in request.columns)
        self.key_titles = {key: self.titles[name] for key, name in names.items() if name in columns}
        """Key → its column in the input."""
        if not self.problems:
            self._read_columns(columns, names, COUNTS if self.of_counts else (score,), undefined=scores.undefined)
            self.others = {name: columns[name] for name in columns if name not in (*names.values(), *COUNTS, score)}
        self.plain_images = self.keys.get("image", np.zeros(0, dtype=np.str_))
        """Names of the images as in the table."""
        if not self.problems and {"image", "group"} <= self.keys.keys():
            self._join_groups_to_images()
        if not self.problems and "fold" in self.keys:
            self._use_folds()

    def _suggest_melt(self, columns: Columns, names: Mapping[str, str], request: ScoreRequest) -> str:
        """Return the code that makes a wide table long; empty if the table is not wide."""
        free = [
            self.titles[name]
            for name, cells in columns.items()
            if name not in (*names.values(), *COUNTS) and np.isfinite(read_numbers(cells)).any()
        ]
        present = [key for key, name in names.items() if name in columns]
        by_title = {self.titles[name]: cells for name, cells in columns.items()}
        return suggest_melt(by_title, free, present, request.metric)

    def _check_score_column(
        self, columns: Columns, score: str, request: ScoreRequest, names: Mapping[str, str]
    ) -> None:
        """Set the metric; `score` is its column, which does not exist if it is computed from counts."""
        if self.of_counts:
            self.metric = request.metric or "miou"
            self.title = OF_COUNTS.get(self.metric, self.metric)
            if self.metric not in OF_COUNTS:
                self.problems.append(
                    f"--metric must be a column, or {' or '.join(OF_COUNTS)} of tp, fp and fn, got {self.metric!r}"
                )
            if request.lower_is_better:
                self.problems.append(f"of {self.title}, higher is better; leave --lower-is-better out")
        elif score not in columns:
            melt = self._suggest_melt(columns, names, request) if names["method"] in columns else ""
            near = melt or suggest_correction(score, columns) or f"; the columns are {join_words(list(columns))}"
            self.problems.append(
                f"a column {score!r} must hold the scores (--metric names another), or tp, fp and fn, got none{near}"
            )
        else:
            self.metric = self.title = score

    def _find_folds(self, columns: Columns, names: dict[str, str], score: str, *, chosen: bool) -> None:
        """Find the column of the folds; refuse several of them, folds as seeds, and scores of training images."""
        if _FOLDS.fullmatch(names["seed"]):
            self.problems.append(
                f"--column seed={names['seed']} must name a column of separate trainings, and folds are none: "
                f"they share training images. Give --column fold={names['seed']} in its place"
            )
        values = {
            name: list(dict.fromkeys(filter(None, map(_format_key, columns[name]))))
            for name in columns
            if (_FOLDS.fullmatch(name) or name == names["fold"]) and name not in (score, names["seed"])
        }
        several = {name: folds for name, folds in values.items() if len(folds) > 1}
        for name, folds in several.items():
            if _SIDES & {value.casefold() for value in folds}:
                self.problems.append(
                    f"a column {name!r} must have one value, got {abbreviate_names(folds)}: only images that a method "
                    f"was not trained on can be judged (in pandas: table[table[{name!r}].astype(str) == {folds[-1]!r}])"
                )
        if len(several) > 1 and not chosen:
            self.problems.append(
                f"one column of folds is needed, got {join_words(list(several))}; --column fold={next(iter(several))} "
                "uses this one"
            )
        if names["fold"] not in several:
            names["fold"] = next(iter(several), "fold")
        if names["fold"] not in several:
            names.pop("fold")  # a single value distinguishes nothing

    def _join_groups_to_images(self) -> None:
        """Rename images to group/image if a run has several images of one name in different groups."""
        groups, images = self.keys["group"].tolist(), self.keys["image"].tolist()
        of_run = [self.keys[key].tolist() for key in ("method", "seed", "class") if key in self.keys]
        runs = list(zip(*of_run, strict=True))
        by_image, by_both = set(zip(runs, images, strict=True)), set(zip(runs, groups, images, strict=True))
        if len(by_image) == len(runs) or len(by_both) < len(runs):
            return
        joined = [f"{group}/{image}" if group else image for group, image in zip(groups, images, strict=True)]
        if len(set(joined)) < len(set(zip(groups, images, strict=True))):
            return
        self.keys["image"] = np.array(joined, dtype=np.str_)
        first: dict[str, str] = {}
        again, two = next((i, g) for i, g in zip(images, groups, strict=True) if first.setdefault(i, g) != g)
        self.notes.append(
            f"Several groups have an image of one name, such as {again!r} in {first[again] or 'none'} and "
            f"{two or 'none'}: they are taken to be different images, each named by its group and its name."
        )

    def _use_folds(self) -> None:
        """Take the folds of a rotation as one run if each image has its own score, else as a run each."""
        fold = self.keys.pop("fold")
        if len(empty := np.flatnonzero(fold == "")):
            self.problems.append(f"{format_rows(empty)}: the fold is empty; name it, or leave the column out")
            return
        seed = self.keys.get("seed", np.full(len(fold), "1"))
        runs = list(zip(self.keys["method"].tolist(), seed.tolist(), strict=True))
        folds_by_run: dict[tuple[str, str], set[str]] = {}
        for run, name in zip(runs, fold.tolist(), strict=True):
            folds_by_run.setdefault(run, set()).add(name)
        if "image" in self.keys:
            first: dict[tuple[tuple[str, str], str], str] = {}
            cells = zip(runs, self.keys["image"].tolist(), strict=True)
            again = [at for at, cell in enumerate(cells) if first.setdefault(cell, fold[at]) != fold[at]]
            if again:
                by, image = self.key_titles["fold"], self.key_titles["image"]
                self.problems.append(
                    f"{format_rows(np.array(again))}: an image must be in one fold of a training, got another than "
                    "before. Trainings of several folds share training images, so that their scores of one image are "
                    "no separate trainings; give each image's mean over them. If images of several folds only have one "
                    f"name, add the fold to it, in pandas: `table[{image!r}] = "
                    f"table[{by!r}].astype(str) + '/' + table[{image!r}].astype(str)`"
                )
            self.folds_of_run = min(map(len, folds_by_run.values()))  # their names may differ from run to run
            self.notes.append(explain_folds(self.folds_of_run))
            return
        names = set(fold.tolist())
        if lacking := [
            f"{method}, seed {name}" for (method, name), present in folds_by_run.items() if present != names
        ]:
            self.problems.append(
                f"each training must have all {len(names)} folds, got fewer of {abbreviate_names(lacking)}"
            )
        self.folds = len(names)
        self.keys["seed"] = np.char.add(np.char.add(seed, ", fold "), fold)
        self.notes.append(
            f"Folds of one name are taken to be the same images for all methods. The trainings of {len(names)} folds "
            "share training images: intervals are widened for that (Nadeau and Bengio 2003), an approximation."
        )

    def _read_columns(
        self, columns: Columns, names: Mapping[str, str], score_names: Sequence[str], *, undefined: bool
    ) -> None:
        for key, name in names.items():
            if name in columns:
                self.keys[key] = np.array([_format_key(value) for value in columns[name]], dtype=np.str_)
        for key in ("method", "seed", "image", "class"):
            if key in self.keys and len(empty := np.flatnonzero(self.keys[key] == "")):
                self.problems.append(f"{format_rows(empty)}: the {key} is empty; name it, or leave the column out")
        self.numbers = np.array([read_numbers(columns[name]) for name in score_names])
        if not self.numbers.shape[1]:
            self.problems.append("at least one row is needed, got none")
        elif len(wrong := np.flatnonzero(~np.isfinite(self.numbers).all(axis=0))) and not undefined:
            step = "a class that an image lacks has no row, and a run that diverged gets the score that it is worth"
            if any(re.search("[,%]", str(columns[name][row])) for name in score_names for row in wrong[:MAX_LISTED]):
                step = "write numbers with a decimal point, and without a sign for thousands or per cent: 0.5999, 1234"
            name = score_names[int(np.isfinite(self.numbers[:, wrong[0]]).argmin())]
            got = columns[name][int(wrong[0])]
            self.problems.append(f"{format_rows(wrong)}: no finite number, got {got!r}; {step}")
        elif self.of_counts and len(wrong := np.flatnonzero((self.numbers < 0).any(axis=0))):
            self.problems.append(f"{format_rows(wrong)}: tp, fp and fn must be ≥ 0")


def _match_columns(columns: Columns, wanted: Collection[str]) -> Columns:
    """Match columns that differ from a wanted name only in case or surrounding spaces, if exactly one does."""
    plain = [str(name).strip().casefold() for name in columns]
    wanted_by_name = {name.strip().casefold(): name for name in wanted if name not in columns}
    again = (
        wanted_by_name.get(key, name) if plain.count(key) == 1 else name
        for name, key in zip(columns, plain, strict=True)
    )
    return dict(zip(again, columns.values(), strict=True))


def _format_key(value: Any) -> str:
    """Return a key as text; 1.0 and "1" are the same."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:g}" if isinstance(value, float) and value.is_integer() else str(value).strip()


def read_numbers(values: Sequence[Any]) -> Floats:
    """Convert values to numbers, NaN if they are none."""
    return np.array([parse_number(value) for value in values], dtype=np.float64)


def format_rows(which: npt.NDArray[np.int64]) -> str:
    """Format row numbers, `rows 2, 5 and 7`, counted from 1 without the header."""
    shown = abbreviate_names([str(i + 1) for i in which[: MAX_LISTED + 1].tolist()], len(which))
    return f"{'row' if len(which) == 1 else 'rows'} {shown}"


def abbreviate_names(names: Sequence[str], count: int | None = None, most: int = MAX_LISTED) -> str:
    """Return `a, b, c and 4 more`: at most `most` of the names, of `count` in all."""
    total = len(names) if count is None else count
    return join_words(list(names)) if total <= most else f"{', '.join(names[:most])} and {total - most} more"
