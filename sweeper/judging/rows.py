"""The rows of a table of scores: the request, the rows as a frame of keys and numbers, and what is wrong with them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from sweeper.core.errors import ProblemListError
from sweeper.core.paths import TRACKING
from sweeper.core.text import abbreviate_names, suggest_correction
from sweeper.judging.direction import find_lower_word
from sweeper.judging.steps import choose_steps, parse_choice

KEYS = ("method", "image", "seed", "group", "class", "fold", "step")
"""Columns that say what a score is of; only `method` is required."""
CELL = ["method", "seed", "image", "class"]
"""Keys of a score."""
COUNTS = ("tp", "fp", "fn")
OF_COUNTS = {"miou": "mIoU", "dice": "mean Dice"}
"""Metrics that can be computed from tp, fp and fn (`--metric`)."""
MAX_SCORE = 1e30
"""Largest absolute score, so that squares in its variance are finite."""
_SIDES = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
"""Parts of a data set; their images cannot be judged together."""
_NO_TRAININGS = re.compile(r"fold|split|\bcv", re.IGNORECASE)
"""Names of columns whose values are no separate trainings."""


class ScoresError(ProblemListError):
    """The scores cannot be judged as they are. `problems` lists every fault that was found."""

    heading = "{problems} in the scores of {where}; nothing was judged:"


@dataclass(frozen=True)
class ScoreRows:
    """Rows as read."""

    columns: Mapping[str, Sequence[Any]] | pd.DataFrame
    """Columns of one length; None, NaN and empty texts are missing values."""
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
    run_names: Sequence[str] = ()
    """Name of each row's run in MLflow; () = rows are called by their numbers, from 1 on."""


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
    """Step of a training that has its score (`sweeper.judging.steps`); None = the last, equal for all."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Key → name of its column, if that is another."""
    ignore: Sequence[str] = ()
    """Columns that say nothing about what a score is of; in MLflow parameters."""
    tracking_uri: str = TRACKING
    """Store of MLflow's experiments."""
    where: Mapping[str, str] = field(default_factory=dict)
    """Filter of MLflow's runs: parameter, tag or `status` → required value."""


class Rows:
    """The rows that have the score of a run, as a frame of keys and numbers, and their problems."""

    def __init__(self, scores: ScoreRows, request: ScoreRequest) -> None:
        table, self.undefined = _make_table(scores), scores.undefined
        self._run_names = scores.run_names
        self.is_trusted = scores.design is not None
        """Whether sweeper trained the runs."""
        score = request.metric or scores.metric or "score"
        choice = parse_choice(request.at, request.metric)
        names = {key: request.columns.get(key, key) for key in KEYS}
        wanted = (*names.values(), *COUNTS, score, *choice.names)
        found = {name: title for name in wanted if (title := _find_column(table.columns.tolist(), name)) is not None}
        self.titles = {key: found[name] for key, name in names.items() if name in found}
        """Key → its column in the input."""
        self.of_counts = score not in found and found.keys() >= set(COUNTS)
        self.metric = (request.metric or "miou") if self.of_counts else score
        self.title = OF_COUNTS.get(self.metric, self.metric) if self.of_counts else score
        self.score_names = COUNTS if self.of_counts else (score,)
        """Columns of `frame` with the numbers."""
        self.problems, self.notes = list[str](), list[str]()
        self.folds = scores.folds
        """Number of folds whose trainings together make a run over all images, if no column says it."""
        self._check_columns(table, found, names, choice.names, request)
        self._check_sides(table, set(found.values()) - {self.titles.get("fold")})
        is_readable = "method" in self.titles and found.keys() >= set(self.score_names)
        if is_readable and not (self.problems and "step" in self.titles):
            self.frame = self._make_frame(table, found, [*self.score_names, *found.keys() & {*choice.names}])
        else:
            self.frame = pd.DataFrame()
        if "step" in self.frame:
            cells = table[found[self.score_names[0]]]
            self.frame, problems = choose_steps(self.frame, cells.notna() & (cells != ""), choice)
            self.problems += problems
            self.notes.append(choice.format_note(self.metric))
        elif request.at is not None and "step" not in self.titles:
            self.problems.append(
                f"--at {request.at} needs a column of a training's steps, got none; --column step=NAME names it"
            )
        self._check_numbers(table, found)
        if (self.frame[[key for key in CELL if key in self.frame]] == "").any(axis=None):
            self.frame = pd.DataFrame()  # what is not named has more problems only for that

    def _check_columns(
        self,
        table: pd.DataFrame,
        found: Mapping[str, str],
        names: Mapping[str, str],
        choice_names: Sequence[str],
        request: ScoreRequest,
    ) -> None:
        """Find columns that are missing, and those of which nobody said what they are."""
        titles: list[str] = table.columns.tolist()
        for key, name in names.items():
            if name not in found and (key == "method" or key in request.columns):
                self.problems.append(
                    f"a column {name!r} must say the {key} of each row, got none{suggest_correction(name, titles)}; "
                    f"--column {key}=NAME names it"
                )
        for name in choice_names:
            if name not in found:
                self.problems.append(f"--at must name a column, got {name}{suggest_correction(name, titles)}")
        unknown = [title for title in titles if title not in {*found.values(), *request.ignore}]
        if self.of_counts and (self.metric not in OF_COUNTS or request.lower_is_better):
            self.problems.append(
                f"of tp, fp and fn --metric must be miou or dice, of which higher is better, got {self.metric!r}"
            )
        elif not self.of_counts and self.metric not in found:
            near = suggest_correction(self.metric, titles) or _suggest_melt(table, unknown, self.titles, request.metric)
            self.problems.append(
                f"a column {self.metric!r} must have the scores (--metric names another), or tp, fp and fn, got none"
                f"{near}"
            )
        if unknown:
            free = [key for key in KEYS if key not in self.titles] or ["KEY"]
            column, ignored = (shlex.quote(text) for text in (f"{free[0]}={unknown[0]}", unknown[0]))
            self.problems.append(
                f"each column must be known, got {abbreviate_names(unknown, most=8)}; for each of them add --column "
                f"{column} if it says the {free[0]} (or {', '.join(free[1:])}), --ignore {ignored} if it is of no "
                "influence on the score"
            )
        if _NO_TRAININGS.search(names["seed"]):
            self.problems.append(
                f"--column seed={names['seed']} must name a column of separate trainings, and folds share training "
                f"images; give --column fold={names['seed']} in its place"
            )

    def _check_sides(self, table: pd.DataFrame, known: Iterable[str | None]) -> None:
        """Find a column that says that images of training or validation are among the rows."""
        for title in table.columns.difference([*known]):
            values = table[title].dropna().astype(str).str.strip().unique().tolist()
            if len(values) > 1 and _SIDES & {value.casefold() for value in values}:
                self.problems.append(
                    f"a column {title!r} must have one value, got {abbreviate_names(values)}: only images that a "
                    "method was not trained on can be judged (in pandas: "
                    f"table[table[{title!r}].astype(str) == {values[-1]!r}])"
                )

    def _make_frame(self, table: pd.DataFrame, found: Mapping[str, str], numbers: Iterable[str]) -> pd.DataFrame:
        """Return the keys as texts and the numbers, NaN where a cell is none; add the problems of empty keys."""
        frame = pd.DataFrame(index=table.index)
        if not len(frame):
            self.problems.append("at least one row is needed, got none")
        for name in numbers:
            frame[name] = pd.to_numeric(table[found[name]], errors="coerce").astype(float)
        for key, title in self.titles.items():
            frame[key] = [_format_key(value) for value in table[title]]
            if key != "group" and len(empty := frame.index[frame[key] == ""]):
                self.problems.append(f"{self.format_rows(empty)}: the {key} is empty; name it, or leave the column out")
        if "fold" in frame and frame["fold"].nunique() < 2:
            return frame.drop(columns="fold")  # it distinguishes nothing
        return frame

    def _check_numbers(self, table: pd.DataFrame, found: Mapping[str, str]) -> None:
        if not len(self.frame):
            return
        numbers = self.frame[list(self.score_names)]
        is_usable = numbers.abs().le(MAX_SCORE) | (numbers.isna() & self.undefined)
        if not is_usable.all(axis=None):
            wrong = self.frame.index[~is_usable.all(axis=1)]
            name = is_usable.loc[wrong[0]].idxmin()
            self.problems.append(
                f"{self.format_rows(wrong)}: a score must be a finite number with a decimal point and no other sign "
                f"(0.5999), got {table.loc[wrong[0], found[name]]!r}; a class that an image lacks has no row, and a "
                "run that diverged gets the score that it is worth"
            )
            self.frame[list(self.score_names)] = numbers.where(is_usable, 0.0)  # to find the remaining problems
        if self.of_counts and (numbers < 0).any(axis=None):
            self.problems.append(
                f"{self.format_rows(numbers.index[(numbers < 0).any(axis=1)])}: tp, fp and fn must be ≥ 0"
            )

    def format_rows(self, rows: pd.Index[int]) -> str:
        """Format rows, `rows 2, 5 and 7`, counted from 1 without the header, or the names of runs."""
        names = [self._run_names[row] for row in rows] if self._run_names else [str(row + 1) for row in rows]
        return f"{'run' if self._run_names else 'row'}{'s' if len(names) > 1 else ''} {abbreviate_names(names)}"


def _make_table(scores: ScoreRows) -> pd.DataFrame:
    """Return the columns as a frame whose index counts the rows from 0 on."""
    table = pd.DataFrame(scores.columns)
    table = table.reset_index() if any(table.index.names) else table
    return table.set_axis(table.columns.map(str), axis=1).reset_index(drop=True)


def _find_column(titles: Sequence[str], name: str) -> str | None:
    """Return the column of this name, or the only one that differs from it by case or surrounding blanks."""
    alike = [title for title in titles if title.strip().casefold() == name.strip().casefold()]
    return name if name in alike else alike[0] if len(alike) == 1 else None


def _suggest_melt(table: pd.DataFrame, unknown: Iterable[str], keys: Mapping[str, str], metric: str | None) -> str:
    """Suggest after a semicolon how to make a wide table long; empty if fewer than two unknown columns have numbers."""
    wide = [title for title in unknown if pd.to_numeric(table[title], errors="coerce").notna().any()]
    if any(title.endswith("__MIN") for title in wide):
        return "; it is a chart of Weights & Biases: docs/judge.md has the lines of pandas that convert it"
    if len(wide) < 2:
        return ""
    words = " ".join(wide).casefold()
    key = next(
        (key for key in ("seed", "fold", "image", "class") if key in words), "class" if "seed" in keys else "seed"
    )
    key = key if "method" in keys else "method"
    score = metric or find_lower_word(words) or "score"
    return (
        f"; if several columns have it, each of one {key} (or fold, image, class), pandas makes a row of each score: "
        f"`table = table.melt({[*keys.values()]!r}, {wide!r}, {key!r}, {score!r}).dropna(subset=[{score!r}])`, for "
        f"--metric {score}"
    )


def _format_key(value: Any) -> str:
    """Return a key as text; 1.0 and "1" are the same."""
    if pd.isna(value):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
