"""Scores of nnU-Net (v2): the `summary.json` of every validation below a folder.

  Dataset…/TRAINER__PLANS__CONFIGURATION/fold_K/validation/summary.json     folds: together one run over all images
  …/TRAINER__PLANS__CONFIGURATION/crossval_results_folds_…/summary.json     the same, where the folds are missing
  FOLDER/summary.json                                                       of `nnUNetv2_evaluate_folder`: one run

Trainer, plans and configuration are the method. If several result folders contain it, each is one of its trainings. A
class's score is the mean over the images in which it is defined, and the score the mean over the classes, like
nnU-Net's own `foreground_mean`.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

from sweeper.core.text import format_count
from sweeper.judging.rows import ScoreRows, ScoresError, explain_folds

METRICS = ("Dice", "IoU")
_FOLD = re.compile(r"fold_(\d+|all)")
_ENDINGS = re.compile(r"\.(nii\.gz|nii|nrrd|mha|tiff?|png|bmp|npz)$")


class _Summary(NamedTuple):
    path: Path
    model: Path
    """Folder of the trained model, or of the predictions."""
    trained: bool
    """Whether that is a folder of training results."""


def read_tree(root: Path) -> ScoreRows:
    """Return the scores of all models below `root`.

    Raises:
        ScoresError: if there are none, they are of several data sets, or a file is not nnU-Net's.
    """
    summaries, notes = _read_summaries(root)
    problems = list[str]()
    if not summaries:
        problems.append(
            "a folder must hold nnU-Net's `summary.json` files of version 2, or METHOD/SEED/ with metrics.csv "
            "(Lightning), results.csv (Ultralytics), trainer_state.json (Hugging Face), scalars.json (MMEngine), "
            "events.out.tfevents (TensorBoard) or run-ID.wandb (Weights & Biases)"
        )
    data_sets = sorted(
        {s.model.parent.name for s in summaries if s.trained and s.model.parent.name.startswith("Dataset")}
    )
    if len(data_sets) > 1:
        problems.append(f"one data set can be judged at a time, got {', '.join(data_sets)}; name one folder of them")
    rows: list[tuple[Any, ...]] = []
    for summary in summaries:
        method = summary.model.resolve().name if summary.trained else summary.model.relative_to(root).as_posix()
        seed = summary.model.parent.relative_to(root).as_posix() if summary.trained and summary.model != root else "."
        try:
            rows += [(method, seed, *row) for row in _read_cases(summary.path)]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            problems.append(
                f"{summary.path} must be a summary of nnU-Net 2, got none ({type(error).__name__}: {error})"
            )
    if problems:
        raise ScoresError(str(root), problems)
    names = ("method", "seed", "image", "class", *METRICS)
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    undefined = sum(math.isnan(value) for value in columns[METRICS[0]])
    if undefined:
        notes.append(
            f"{format_count(undefined, 'score')} of classes that neither labels nor answer hold are undefined, and "
            "left out of the class's mean, as nnU-Net does; a false alarm on such an image counts as 0."
        )
    folds = min(map(_count_folds, summaries)) if all(summary.trained for summary in summaries) else 1
    if folds > 1 and len({summary.model.parent for summary in summaries}) > 1:
        notes.append(explain_folds(folds))
    return ScoreRows(columns, str(root), notes=tuple(notes), metric=METRICS[0], undefined=True, folds=folds)


def _count_folds(summary: _Summary) -> int:
    """Count the folds of a summary's model by their folders' names; 1 = no folds."""
    together = summary.path.parent.name.removeprefix("crossval_results_folds_")
    if together != summary.path.parent.name:
        return len(together.split("_"))
    return len(list(summary.model.glob("fold_*/validation/summary.json"))) or 1


def _read_summaries(root: Path) -> tuple[list[_Summary], list[str]]:
    summaries, notes = list[_Summary](), list[str]()
    whole = list[_Summary]()
    for path in sorted(root.rglob("summary.json")):
        folder = path.parent
        fold = _FOLD.fullmatch(folder.parent.name) if folder.name == "validation" else None
        if fold is not None and fold[1] == "all":
            notes.append(f"{folder.parent} was scored on its own training images, and is left out.")
        elif fold is not None:
            summaries.append(_Summary(path, folder.parent.parent, trained=True))
        elif folder.name.startswith("crossval_results"):
            whole.append(_Summary(path, folder.parent, trained=True))
        elif folder.name != "postprocessed":
            summaries.append(_Summary(path, folder, trained=False))
    by_fold = {summary.model for summary in summaries}
    return [*summaries, *(s for s in whole if s.model not in by_fold)], notes


def _read_cases(path: Path) -> list[tuple[Any, ...]]:
    """Read (image, class, Dice, IoU) of each case and foreground class."""
    rows = []
    for case in json.loads(path.read_text("utf-8"))["metric_per_case"]:
        image = _ENDINGS.sub("", re.split(r"[\\/]", case["reference_file"])[-1])
        rows += [
            (image, label, *(float("nan" if values[m] is None else values[m]) for m in METRICS))
            for label, values in case["metrics"].items()
            if label != "0"
        ]
    return rows
