"""Tables for programs: all trainings of a study (`trials.csv`), and the test images (`split.csv`)."""

from __future__ import annotations

import csv
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sweeper.core.metrics import compute_scores, count_at_point
from sweeper.core.records import Dataset, PartScores, Split, SweepRecord, TrialResult
from sweeper.core.text import FORMULA

_SCORES = ("value", "miou", "miou_at_default", "fg_iou", "dice", "point")
_BEFORE = (
    *("purpose", "number", "family", "state"),
    *_SCORES,
    *(f"{score}_part" for score in _SCORES),
    *("part", "val_images", "test_miou", "test_fg_iou", "seed", "fold", "lr"),
)
_AFTER = (
    *("collapse", "collapse_at_default", "never_predicted", "steps_done", "steps", "seconds", "seconds_per_step"),
    *("device", "versions", "run_id", "reason"),
)
_INTEGERS = ("number", "seed", "steps_done", "steps")
_TEXTS = (
    *("purpose", "family", "state", "collapse", "collapse_at_default", "never_predicted"),
    *("device", "versions", "run_id", "reason"),
)


def make_trials_frame(sweep: SweepRecord) -> pd.DataFrame:
    """Return one row per training: the search's trials by number, then all others.

    Columns, always in this order; missing numbers are NaN (empty) and missing texts None:

    - `purpose` search, probe, rate, first, replicate, confirm or final; `number`; `family`
    - `state` complete, pruned or failed
    - `value`: the last evaluation's objective, on all validation images (0 if diverged); empty for a training that was
      stopped at a rung, where only a part of them is scored
    - `miou`, `miou_at_default` (at 0.5 or τ = 0), `fg_iou`, `dice`, `point` (the chosen threshold or τ; the mean of
      several thresholds): likewise,
      shares in 0–1
    - `value_part`, `miou_part`, `miou_at_default_part`, `fg_iou_part`, `dice_part`, `point_part`: of every training's
      last evaluation, on the `part` of the `val_images` that rungs score; complete and stopped search trials are
      comparable by these. Equal to the columns above if `part` is all
    - `test_miou`, `test_fg_iou`: on the test split at `point`; confirmation and final trainings only
    - `seed`; `fold`: the fold of `test_miou` (from 0), only with folds; `lr`; `params.NAME`: every coordinate of the
      losses, in the order of the search space
    - `collapse`, `collapse_at_default` (at 0.5 or τ = 0): how a complete training collapsed, all_background,
      no_better_than_constant or diverged, else none; `never_predicted`: the classes that a complete training never
      predicts, joined by `; `
    - `steps_done` of `steps`; `seconds`; `seconds_per_step`; `device`; `versions` of libraries; `run_id` (MLflow);
      `reason` of a failure
    """
    named = [name for family in sweep.space.families for name in family.coordinates]
    trials = sweep.trainings
    used = sorted({name for trial in trials for name in trial.spec.params})
    names = list(dict.fromkeys([*named, *used]))
    rows = [_make_row(trial, names) for trial in trials]
    columns = [*_BEFORE, *(f"params.{name}" for name in names), *_AFTER]
    frame = pd.DataFrame(rows, columns=columns)
    for column in columns:
        if column in _TEXTS:
            frame[column] = frame[column].astype(object).where(frame[column].notna(), None)
        else:
            frame[column] = frame[column].astype("int64" if column in _INTEGERS else "float64")
    return frame


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write the table as UTF-8 CSV that is safe for spreadsheets.

    A text that a spreadsheet would run as a formula (it begins with = + - @, tab or carriage return) gets a leading
    apostrophe (OWASP, CSV injection); control characters become spaces. Numbers keep their exact value.
    """
    safe = frame.copy()
    for column in _TEXTS:
        safe[column] = safe[column].map(escape_spreadsheet_text)
    safe.to_csv(path, index=False, encoding="utf-8", lineterminator="\n")


def escape_spreadsheet_text(value: object) -> object:
    """Escape a text so that no spreadsheet runs it as a formula; return anything else unchanged."""
    if not isinstance(value, str):
        return value
    plain = "".join(" " if unicodedata.category(c) == "Cc" and c != "\n" else c for c in value)
    return "'" + plain if value.startswith(FORMULA) else plain


def write_split(dataset: Dataset, split: Split, path: Path) -> None:
    """Write `stem,split,group` of every image, with `split` only for test images and images whose split is given.

    The others stay empty: with training and validation fixed, later seeds could not divide the images again.

    A stem or group that a spreadsheet would run as a formula gets a leading apostrophe, as in `trials.csv`; sweeper
    removes it when it reads the file.
    """
    sides = dict.fromkeys(split.test, "test")
    rows = [[image.stem, image.split or sides.get(i, ""), image.group or ""] for i, image in enumerate(dataset.images)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["stem", "split", "group"])
        writer.writerows([escape_spreadsheet_text(cell) for cell in row] for row in rows)


def _make_row(trial: TrialResult, names: list[str]) -> dict[str, Any]:
    spec = trial.spec
    versions = ", ".join(f"{name} {version}" for name, version in trial.versions.items())
    row = {
        "purpose": spec.purpose,
        "number": spec.number,
        "family": spec.family,
        "state": trial.state,
        "seed": spec.seed,
        "fold": spec.fold,
        "lr": spec.lr,
        **{f"params.{name}": spec.params.get(name) for name in names},
        "collapse": trial.classify_end(trial.collapse).value,
        "collapse_at_default": trial.classify_end(trial.collapse_at_default).value,
        "never_predicted": "; ".join(trial.missing_classes) or None,
        "steps_done": 0,
        "steps": spec.steps,
        "seconds": trial.seconds,
        "seconds_per_step": trial.seconds_per_step,
        "device": trial.device,
        "versions": versions or None,
        "run_id": trial.run_id,
        "reason": trial.reason,
    }
    if trial.reason:
        row["reason"] = trial.reason.encode("utf-8", "replace").decode()  # surrogates of file names
    if not trial.evaluations:
        return row
    last = trial.evaluations[-1]
    part = last.part_scores
    row |= {"steps_done": last.step, "val_images": last.val_images, "part": part.images}
    row |= {f"{name}_part": value for name, value in _list_scores(part).items()}
    if last.complete or trial.state == "complete":
        row |= {**_list_scores(last), "value": trial.value}
    if trial.test is not None:
        tested = compute_scores(count_at_point(trial.test, last.point), trial.test.task)
        row |= {"test_miou": tested.miou, "test_fg_iou": tested.fg_iou}
    return row


def _list_scores(scores: PartScores) -> dict[str, float | None]:
    """Return the scores of an evaluation by the names of `_SCORES`."""
    chosen = scores.chosen
    values = (scores.value, chosen.miou, scores.default.miou, chosen.fg_iou, chosen.dice, float(np.mean(scores.point)))
    return dict(zip(_SCORES, values, strict=True))
