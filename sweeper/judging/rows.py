"""The rows of a table of scores, as a frame of keys and numbers, and what is wrong with them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from sweeper.core.errors import ProblemListError
from sweeper.core.records import InterimAnalysis, NextStep
from sweeper.core.text import abbreviate_names, suggest_correction
from sweeper.judging.direction import find_lower_word
from sweeper.judging.request import KEYS, ScoreRequest
from sweeper.judging.steps import StepChoice, choose_steps, parse_choice

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
    analyses: tuple[InterimAnalysis, ...] = ()
    """Planned interim analyses, which together keep the level; () = this one."""
    constant_miou: float = 0.0
    """mIoU of the best constant answer where classes overlap, as counts do not have it."""
    confirm: tuple[NextStep, ...] = ()
    """Command that compares losses in the trainings themselves, if they are known."""
    usual: tuple[str, ...] = ()
    """Method that people have unless they name another, if it is known."""
    run_names: Sequence[str] = ()
    """Name of each row's run in MLflow; () = rows are called by their numbers, from 1 on."""


class Rows:
    """The rows that have the score of a run, as a frame of keys and numbers, and their problems."""

    def __init__(self, scores: ScoreRows, request: ScoreRequest) -> None:
        """Read the columns.

        Raises:
            ScoresError: if columns are missing or not known, or rows have no names, as nothing more can be said then.
        """
        table, self.scores = _make_table(scores), scores
        self.is_trusted = scores.design is not None
        """Whether sweeper trained the runs."""
        choice = parse_choice(request.at, request.metric)
        names = {key: request.column.get(key, key) for key in KEYS}
        wanted = [*names.values(), *COUNTS, "score", *filter(None, (request.metric, scores.metric)), *choice.names]
        every = {name: _find_column(table, name) for name in wanted}
        found = {name: title for name, title in every.items() if title is not None}
        self.titles = {key: found[name] for key, name in names.items() if name in found}
        """Key → its column in the input."""
        has_counts = found.keys() >= set(COUNTS)
        has_only_counts = has_counts and "score" not in found
        usual = "miou" if has_only_counts else "score"
        named = request.metric or scores.metric
        self.metric = named or usual
        self.of_counts = has_counts and self.metric not in found
        self.title = OF_COUNTS.get(self.metric, self.metric) if self.of_counts else self.metric
        self.score_names = list(COUNTS) if self.of_counts else [self.metric]
        """Columns of `frame` with the numbers."""
        self.problems, self.notes = list[str](), list[str]()
        self._check_columns(table, found, names, request, choice)
        self.raise_problems()
        numeric = {name: table[found[name]] for name in (*self.score_names, *choice.names)}
        numbers = {name: pd.to_numeric(cells, errors="coerce").astype(float) for name, cells in numeric.items()}
        self.frame = pd.DataFrame(numbers | {key: _format_keys(table[title]) for key, title in self.titles.items()})
        if "fold" in self.frame and self.frame["fold"].nunique() < 2:
            self.frame = self.frame.drop(columns="fold")  # it distinguishes nothing
        is_named = self._check_names()
        if is_named and "step" in self.frame:
            cells = table[found[self.score_names[0]]]
            self.frame, problems = choose_steps(self.frame, cells.notna() & (cells != ""), choice)
            self.problems += problems
            self.notes.append(choice.format_note(self.metric))
        self._check_cells(table[[found[name] for name in self.score_names]], undefined=scores.undefined)
        if not is_named:
            self.raise_problems()

    def _check_columns(
        self,
        table: pd.DataFrame,
        found: Mapping[str, str],
        names: Mapping[str, str],
        request: ScoreRequest,
        choice: StepChoice,
    ) -> None:
        """Find columns that are missing, not known, or of other images than test images."""
        titles: list[str] = table.columns.tolist()
        if any(title.endswith("__MIN") for title in titles):
            self.problems.append(
                "a row must have one score, got a chart of Weights & Biases; pandas lines in docs/judge.md convert it"
            )
            return
        needed = {name: key for key, name in names.items() if key in ("method", *request.column)}
        needed |= dict.fromkeys(choice.names, "step") | ({names["step"]: "step"} if request.at is not None else {})
        for name in [name for name in needed if name not in found]:
            self.problems.append(
                f"a column {name!r} must say the {needed[name]} of each row, got none"
                f"{suggest_correction(name, titles)}; --column {needed[name]}=NAME names it"
            )
        unknown = [title for title in titles if title not in {*found.values(), *request.ignore}]
        is_of_no_counts = self.metric not in OF_COUNTS or request.lower_is_better
        if self.of_counts and is_of_no_counts:
            self.problems.append(
                f"of tp, fp and fn --metric must be miou or dice, of which higher is better, got {self.metric!r}"
            )
        if not self.of_counts and self.metric not in found:
            melt = _suggest_melt(table, unknown, self.titles, request.metric)
            near = suggest_correction(self.metric, titles)
            steps = (near, melt) if "method" in self.titles else (melt, near)
            self.problems.append(
                f"a column {self.metric!r} must have the scores (--metric names another), or tp, fp and fn, got none"
                f"{next(filter(None, steps), '')}"
            )
        if unknown:
            left = [key for key in KEYS if key not in self.titles]
            free = left or ["KEY"]
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
        known = {*found.values()} - {self.titles.get("fold")}
        for title in [title for title in titles if title not in known]:
            values = table[title].dropna().astype(str).str.strip().unique().tolist()
            if len(values) > 1 and _SIDES & {value.casefold() for value in values}:
                self.problems.append(
                    f"a column {title!r} must have one value, got {abbreviate_names(values)}: only images that a "
                    "method was not trained on can be judged (in pandas: "
                    f"table[table[{title!r}].astype(str) == {values[-1]!r}])"
                )

    def _check_names(self) -> bool:
        """Find keys that are empty; return whether there are none, and rows."""
        if self.frame.empty:
            self.problems.append("at least one row is needed, got none")
        for key in self.frame.columns.intersection([key for key in KEYS if key != "group"]):
            self.refuse(self.frame[key] == "", f"the {key} must have a name, got none; add it, or leave the rows out")
        return not self.problems

    def _check_cells(self, cells: pd.DataFrame, *, undefined: bool) -> None:
        """Find scores that are no numbers, which count as 0 for the remaining problems."""
        numbers = self.frame[self.score_names].to_numpy()
        is_wrong = ~((np.abs(numbers) <= MAX_SCORE) | (np.isnan(numbers) & undefined))
        places = is_wrong.argmax(axis=1)[:, None]
        self.refuse(
            is_wrong.any(axis=1),
            "a score must be a finite number with a decimal point and no other sign (0.5999), got {got}; a class that "
            "an image lacks has no row, and a run that diverged gets the score that it is worth",
            np.take_along_axis(cells.loc[self.frame.index].to_numpy(dtype=object), places, axis=1)[:, 0],
        )
        is_negative = (numbers < 0).any(axis=1) & self.of_counts
        self.refuse(is_negative, "tp, fp and fn are counts of pixels, and must be ≥ 0")
        self.frame[self.score_names] = np.where(is_wrong, 0.0, numbers)

    def raise_problems(self) -> None:
        """Raise the problems that were found so far.

        Raises:
            ScoresError: if there are any.
        """
        ScoresError.refuse(self.scores.source, self.problems)

    def refuse(self, is_wrong: npt.ArrayLike, problem: str, cells: npt.ArrayLike | None = None) -> None:
        """Add a problem of the marked rows of `frame`, if there are any; `cells` have the value that replaces {got}.

        They are called `rows 2, 5 and 7`, from 1 on without the header, or by the names of their runs.
        """
        marks = np.asarray(is_wrong, dtype=bool)
        which = self.frame.index[marks].tolist()
        run_names, word = self.scores.run_names, "run" if self.scores.run_names else "row"
        names = [run_names[row] if run_names else str(row + 1) for row in which]
        if names:
            got = "" if cells is None else repr(np.asarray(cells, dtype=object)[marks][0])
            text = problem.replace("{got}", got)
            self.problems.append(f"{word}{'s' * (len(names) > 1)} {abbreviate_names(names)}: {text}")


def _make_table(scores: ScoreRows) -> pd.DataFrame:
    """Return the columns as a frame whose index counts the rows from 0 on."""
    table = pd.DataFrame(scores.columns)
    table = table.reset_index() if any(table.index.names) else table
    return table.set_axis(table.columns.map(str), axis=1).reset_index(drop=True)


def _find_column(table: pd.DataFrame, name: str) -> str | None:
    """Return the column of this name, or the only one that differs from it by case or surrounding blanks."""
    alike = [title for title in table.columns.tolist() if title.strip().casefold() == name.strip().casefold()]
    if name in alike:
        return name
    return alike[0] if len(alike) == 1 else None


def _suggest_melt(table: pd.DataFrame, unknown: Iterable[str], keys: Mapping[str, str], metric: str | None) -> str:
    """Suggest after a semicolon how to make a wide table long; empty if fewer than two unknown columns have numbers."""
    wide = [title for title in unknown if pd.to_numeric(table[title], errors="coerce").notna().any()]
    if len(wide) < 2:
        return ""
    words = " ".join(wide).casefold()
    usual = "class" if "seed" in keys else "seed"
    key = next((key for key in ("seed", "fold", "image", "class") if key in words), usual)
    key = key if "method" in keys else "method"
    name = metric or find_lower_word(words)
    score = name or "score"
    return (
        f"; if several columns have it, each of one {key} (or fold, image, class), pandas makes a row of each score: "
        f"`table = table.melt({[*keys.values()]!r}, {wide!r}, {key!r}, {score!r}).dropna(subset=[{score!r}])`, for "
        f"--metric {score} (with --lower-is-better where that is so)"
    )


def _format_keys(cells: pd.Series[Any]) -> pd.Series[Any]:
    """Return keys as texts; 1.0 and "1" are the same, and a missing one is empty."""
    codes, distinct = pd.factorize(cells.astype(object), use_na_sentinel=False)
    values = [int(v) if isinstance(v, float) and v.is_integer() else v for v in distinct]
    texts = ["" if pd.isna(value) else str(value).strip() for value in values]
    return pd.Series(np.array(texts, dtype=object)[codes], dtype=object)
