"""Which trainings of a study may have seen other pixels than were decoded, as the decoded images changed meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

import optuna

from sweeper.core.errors import ChangedImagesError
from sweeper.core.records import TrialSpec
from sweeper.storage.attributes import CHANGED, UNCHANGED
from sweeper.storage.record_format import pack_value, unpack_value
from sweeper.storage.results import all_results, waiting_results


def note_unchanged(study: optuna.Study) -> None:
    """Remember that the images are those of all trainings that there are."""
    study.set_user_attr(UNCHANGED, pack_value(sorted(_keys(study))))


def refuse_changed(study: optuna.Study) -> None:
    """Nothing is concluded from a study whose images changed while it was trained.

    Raises:
        ChangedImagesError: if that was found before.
    """
    if (why := unpack_value(study.user_attrs, CHANGED)) is not None:
        raise ChangedImagesError(study.study_name, why)


def judge_change(study: optuna.Study, folder: Path, files: Sequence[str]) -> None:
    """Remember with the study that files of decoded images changed, if trainings may have seen that.

    Args:
        study: whose images they are.
        folder: of the decoded images.
        files: those in it that changed; none = nothing is remembered.

    Raises:
        ChangedImagesError: if trainings were made since the images were last found to be unchanged, or that was found
            before.
    """
    refuse_changed(study)
    if not files:
        return
    before = set(unpack_value(study.user_attrs, UNCHANGED, []))
    doubtful = _keys(study) - before
    if not doubtful:
        return
    why = f"{', '.join(files[:5])} in {folder} changed while these were trained, or after it: {_ranges(doubtful)}"
    study.set_user_attr(CHANGED, pack_value(why))
    raise ChangedImagesError(study.study_name, why)


def _keys(study: optuna.Study) -> set[str]:
    return {_key(result.spec) for result in (*all_results(study), *waiting_results(study))}


def _key(spec: TrialSpec) -> str:
    return f"{spec.purpose}/{spec.number:05d}"


def _ranges(keys: Iterable[str]) -> str:
    """`confirm 0–5, search 3, search 7–9`."""
    found = []
    for purpose, own in groupby(sorted(keys), lambda key: key.partition("/")[0]):
        numbers = [int(key.partition("/")[2]) for key in own]
        for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
            row = [number for _, number in run]
            found.append(f"{purpose} {row[0]}" + (f"–{row[-1]}" if len(row) > 1 else ""))
    return ", ".join(found)
