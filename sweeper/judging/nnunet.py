"""Scores of nnU-Net: the `summary.json` of every validation below a folder, of version 2 or 1.

  Dataset…/TRAINER__PLANS__CONFIGURATION/fold_K/validation/summary.json     version 2
  CONFIGURATION/Task…/TRAINER__PLANS/fold_K/validation_raw/summary.json     version 1
  …/crossval_results_folds_…/summary.json                                   all folds of a model that has no others
  FOLDER/summary.json                                                       of `nnUNetv2_evaluate_folder`: one run

The model is the method. If several result folders contain it, each is one of its trainings. A class's score is the mean
over the images in which it is defined, and the score the mean over the classes, like nnU-Net's own `foreground_mean`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from sweeper.core.paths import open_regular_file
from sweeper.core.records import NextStep
from sweeper.core.text import format_count, join_words
from sweeper.evidence.settling import count_confirm_trainings
from sweeper.judging.request import ScoreRequest
from sweeper.judging.rows import ScoreRows, ScoresError

_ENDINGS = re.compile(r"\.(nii\.gz|nii|nrrd|mha|tiff?|png|bmp|npz)$")
_TOGETHER = re.compile(r"(crossval_results|cv_niftis)(_folds)?(?P<folds>(_\d+)*).*")
"""Folders with the scores of all folds."""
_COMMANDS = (
    (
        "nnUNetv2_train {data} {configuration} {fold} -tr {trainer} -p {plans}",
        "nnUNetTrainerCELoss",
        "nnUNetTrainerDiceLoss",
    ),
    (
        "nnUNet_train {configuration} {trainer} {data} {fold} -p {plans}",
        "nnUNetTrainerV2_Loss_CE",
        "nnUNetTrainerV2_Loss_Dice",
    ),
)
"""Of version 2 and 1: the command that trains a fold, and two trainers that may be compared."""
_CONFIRM = (
    "sweeper confirm --losses dice_focal,tversky --present {present} --command "
    '"python -m sweeper.adapters.nnunet {data} {configuration} {fold} -p {plans}"{folds}'
)
"""Command that compares losses in the training itself, of version 2."""
_COMPARED = 3
"""Losses of that command."""
_USUAL = ("nnUNetTrainer", "nnUNetTrainerV2")
"""Trainers that people have unless they name another, of version 2 and 1."""
_PRESENT = {"nnUNetTrainerCELoss": "cross_entropy", "nnUNetTrainerDiceLoss": "dice"}
"""Trainer → its loss; all others have nnU-Net's own."""


class _Summary(NamedTuple):
    path: Path
    model: Path
    """Folder of the trained model, or of the predictions."""
    fold: str
    """Fold of the images; "" = not known."""
    folds: int = 1
    """Number of folds together; 1 = one, or predictions."""

    @property
    def is_trained(self) -> bool:
        """Whether the model's folder has results of trainings."""
        return self.model != self.path.parent

    def name_method(self, root: Path) -> str:
        """Return the name of the model, in version 1 with its configuration."""
        if not self.is_trained:
            return self.model.relative_to(root).as_posix()
        task = self.model.resolve().parent
        return f"{self.model.resolve().name}{f'__{task.parent.name}' if task.name.startswith('Task') else ''}"


def read_tree(root: Path, request: ScoreRequest) -> ScoreRows:
    """Return the scores of all models below `root`.

    Raises:
        ScoresError: if there are none, they are of several data sets, or a file is not nnU-Net's.
    """
    metric, problems, notes, tables = request.metric or "Dice", list[str](), list[str](), list[pd.DataFrame]()
    summaries = list(_find_summaries(root, notes))
    results: dict[str, dict[Path, str]] = {}
    for summary in summaries:
        method = summary.name_method(root)
        folder = results.setdefault(method, {})
        seed = folder.setdefault(summary.model, str(len(folder) + 1))
        try:
            cases = pd.DataFrame(_read_cases(summary.path, metric), columns=["image", "class", metric])
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            problems.append(
                f"{summary.path} must be a summary of nnU-Net with {metric}, got none ({type(error).__name__}: {error}"
                "); evaluate its folder again, or remove it"
            )
            continue
        tables.append(cases.assign(method=method, seed=seed, fold=summary.fold))
    if not summaries:
        problems.append(
            "a folder must have nnU-Net's `summary.json` files, got none; of other results make a table "
            "(docs/judge.md has lines of pandas for the logs of other trainers)"
        )
    data_sets = sorted({s.model.parent.name for s in summaries if re.match(r"(Dataset|Task)\d", s.model.parent.name)})
    if len(data_sets) > 1:
        problems.append(f"one data set can be judged at a time, got {', '.join(data_sets)}; name one folder of them")
    if not request.common:
        problems += _find_missing_folds(summaries, root)
    ScoresError.refuse(str(root), problems)
    table = pd.concat(tables, ignore_index=True)
    folds = table[table["fold"] != ""].groupby("image")["fold"].first()
    table["fold"] = table["image"].map(folds).where(table["fold"] == "", table["fold"])
    undefined = int(table[metric].isna().sum())
    if undefined:
        notes.append(
            f"{format_count(undefined, 'score')} of classes that neither labels nor answer hold are undefined, and "
            "left out of the class's mean, as nnU-Net does; a false alarm on such an image counts as 0."
        )
    if table["fold"].isna().any():
        table = table.drop(columns="fold")
    together = min(summary.folds for summary in summaries)
    by_trainer = {name.split("__")[0]: name for name in results}
    return ScoreRows(
        table, str(root), notes=tuple(notes), metric=metric, undefined=True, folds=together,
        confirm=tuple(_list_confirmations(summaries)[:1]), usual=tuple(filter(None, map(by_trainer.get, _USUAL))),
    )  # fmt: skip


def _find_summaries(root: Path, notes: list[str]) -> Iterator[_Summary]:
    """Yield the summaries that count; of folds, if they are there, and not of all together."""
    paths = [path for path in sorted(root.rglob("summary.json")) if not path.parent.name.endswith("postprocessed")]
    by_fold = {path.parent.parent.parent for path in paths if path.parent.parent.name.startswith("fold_")}
    for path in paths:
        folder, above = path.parent, path.parent.parent
        together = _TOGETHER.fullmatch(folder.name)
        if above.name == "fold_all":
            notes.append(f"{above} was scored on its own training images, and is left out.")
        elif above.name.startswith("fold_"):
            yield _Summary(path, above.parent, above.name.removeprefix("fold_"))
        elif together is None:
            yield _Summary(path, folder, "")
        elif above not in by_fold:
            yield _Summary(path, above, "", max(1, together["folds"].count("_")))


def _find_missing_folds(summaries: list[_Summary], root: Path) -> Iterator[str]:
    """Yield the commands that train what is missing: folds that other models have, or a second model."""
    folds: dict[Path, set[str]] = {}
    for summary in summaries:
        folds.setdefault(summary.model, set()).update({summary.fold} - {""})
    names = {summary.model: summary.name_method(root).split("__") for summary in summaries if summary.is_trained}
    for model, (trainer, plans, configuration) in ((m, n) for m, n in names.items() if len(n) == 3):
        data = model.resolve().parent.name
        command, *trainers = _COMMANDS[data.startswith("Task")]
        words = {"data": data, "configuration": configuration, "plans": plans}
        if len(folds) == 1:
            train = command.format(
                fold=min(folds[model], default="0"), trainer=trainers[trainer == trainers[0]], **words
            )
            own = "".join(
                f"; or compare losses in this training, {step.values['least']} to {step.values['most']} trainings: "
                f"{step.command}"
                for step in _list_confirmations(summaries)
            )
            yield f"at least 2 methods must be compared, got {model.name}; train another one on its folds: {train}{own}"
        elif lacking := folds[model] and sorted(set.union(*folds.values()) - folds[model]):
            yield (
                f"{model.name} must have the folds of the others, lacks {join_words(lacking)}: "
                f"{command.format(fold=lacking[0], trainer=trainer, **words)}; or compare what all have, with --common"
            )


def _list_confirmations(summaries: list[_Summary]) -> list[NextStep]:
    """Return the commands that compare losses in the trainings themselves, of models of version 2."""
    folds: dict[Path, list[str]] = {}
    for summary in filter(lambda each: each.model.resolve().parent.name.startswith("Dataset"), summaries):
        folds.setdefault(summary.model.resolve(), []).extend(filter(None, [summary.fold]))
    steps = []
    for model, trained in folds.items():
        trainer, *words = model.name.split("__")
        if len(words) == 2:
            command = _CONFIRM.format(
                data=model.parent.name,
                configuration=words[1],
                plans=words[0],
                present=_PRESENT.get(trainer, "dice_ce:mix=0.5"),
                fold=min(trained, default="0"),
                folds=f" --folds {len(trained)}" * (len(trained) > 1),
            )
            least, most = count_confirm_trainings(_COMPARED, max(1, len(trained)))
            steps.append(NextStep(code="CONFIRM", values={"least": least, "most": most}, command=command))
    return steps


def _read_cases(path: Path, metric: str) -> Iterator[tuple[str, str, float]]:
    """Read (image, class, score) of each case and foreground class; NaN where the score is undefined."""
    with open_regular_file(path) as file:
        document = json.load(file)
    for case in document.get("metric_per_case") or document["results"]["all"]:
        image = _ENDINGS.sub("", re.split(r"[\\/]", case.get("reference_file") or case["reference"])[-1])
        labels: dict[str, Any] = case.get("metrics") or {
            label: scores for label, scores in case.items() if isinstance(scores, dict)
        }
        for label, scores in labels.items():
            if label != "0":
                value = {name.casefold(): score for name, score in scores.items()}[metric.casefold()]
                yield image, label, math.nan if value is None else float(value)
