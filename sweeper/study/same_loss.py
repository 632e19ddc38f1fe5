"""Find search trials whose loss equals a simpler one, so that no loss is compared with itself.

A family's coordinates reach points at which it equals another family: `pos_weight` 1, `gamma` 0, `mix` 0 or 1,
`fn_weight` ½. A trial near such a point counts as a trial of the simplest family that it equals: its learning rate is
one that this family was tried with, and the recommendation uses this family's name. Equality is measured on the data
set's own labels (`sweeper.losses.gradient_distance`), not derived from the coordinates: the `mix` at which a part no
longer counts depends on the imbalance.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sweeper.core.errors import SweeperError
from sweeper.core.label_planes import LabelMap
from sweeper.core.records import Conditions, Dataset, SameLoss, SameLosses, SearchSpace, TrialResult
from sweeper.core.tasks import RULES
from sweeper.data.folds import get_split
from sweeper.data.store import open_store
from sweeper.executors.start_process import LaunchedProcess, WorkerDiedError, begin_loading
from sweeper.losses.families import FAMILIES
from sweeper.losses.own_losses import register_user_losses

CLOSE = 0.02
"""Losses whose gradients differ by no more are the same function."""
IMAGES = 8
"""Training images whose labels are used for the measurement."""
SIDE = 256
"""Largest side of these in pixels; larger images are cropped."""
MEASURING_SECONDS = 300.0
"""Seconds to wait for the measuring process; one or two are usual after torch is loaded."""


class EquivalenceQuestion(NamedTuple):
    """A trial's loss, and a simpler one that it may equal."""

    trial: int
    family: str
    params: dict[str, float]
    is_family: str
    is_params: dict[str, float]


Measure = Callable[[Sequence[EquivalenceQuestion], Conditions], list[float]]
"""(questions, conditions) → distance between the gradients of each pair."""


def find_equivalent_losses(
    trials: Sequence[TrialResult], space: SearchSpace, conditions: Conditions, measure: Measure
) -> SameLosses:
    """Return the completed trials whose loss equals a simpler family of the space on these data.

    The present loss counts under its own name. Of several families that a trial equals, the simplest counts (by the
    registry's order).
    """
    questions = [question for trial in trials if trial.has_score for question in _list_questions(trial, space)]
    answers: dict[int, SameLoss] = {}
    for question, distance in zip(questions, measure(questions, conditions) if questions else [], strict=True):
        if distance <= CLOSE and question.trial not in answers:
            answers[question.trial] = SameLoss(**question._asdict(), distance=distance)
    return SameLosses(trials=len(trials), found=tuple(answers.values()))


def relabel_equivalent_trials(trials: Sequence[TrialResult], same: Sequence[SameLoss]) -> list[TrialResult]:
    """Return the trainings, with those that equal a simpler loss under its name."""
    simpler = dict[tuple[object, ...], SameLoss]()
    for each in same:
        simpler[each.family, tuple(sorted(each.params.items()))] = each
    relabelled = []
    for trial in trials:
        found = simpler.get(trial.spec.loss)
        if found is not None:
            spec = trial.spec.model_copy(update={"family": found.is_family, "params": found.is_params})
            trial = trial.model_copy(update={"spec": spec})  # noqa: PLW2901
        relabelled.append(trial)
    return relabelled


def _list_questions(trial: TrialResult, space: SearchSpace) -> list[EquivalenceQuestion]:
    """Return the simpler families of the space at the trial's own coordinates, neutral where it has none."""
    spec, names = trial.spec, list(space.by_name)
    if spec.family not in names or spec.family == space.present.family:
        return []
    params = dict[str | None, float](FAMILIES[spec.family].map_roles(space.task, spec.params).items())
    if 0 < (alpha := params.get("alpha", 0.0)) < 1:
        params.setdefault("pos_weight", alpha / (1 - alpha))  # equal up to a factor of the loss
    questions = []
    for family in space.families[: names.index(spec.family)]:
        free = FAMILIES[family.family].coordinates[space.task]
        shared = {
            name: coordinate.low if coordinate.kind == "fixed" else params.get(free[name].role, free[name].neutral)
            for name, coordinate in family.coordinates.items()
        }
        known = {name: value for name, value in shared.items() if value is not None}
        if known.keys() == shared.keys():
            questions.append(EquivalenceQuestion(spec.number, spec.family, dict(spec.params), family.family, known))
    return questions


# --- Measuring, in a process that may load torch -------------------------------------------------------------


def measure_loss_distances(questions: Sequence[EquivalenceQuestion], conditions: Conditions) -> list[float]:
    """Measure the distances on labels of training images: in this process if torch is loaded, else in a new one.

    Raises:
        SweeperError: if that process ends without an answer.
    """
    if "torch" in sys.modules:
        return _compute_distances(questions, conditions)
    worker = LaunchedProcess(_answer_question, (list(questions), conditions), begin_loading())
    try:
        if not worker.pipe.poll(MEASURING_SECONDS):
            raise WorkerDiedError(f"no answer within {MEASURING_SECONDS:g} s")
        answer = worker.pipe.recv()
    except (EOFError, OSError) as error:
        raise WorkerDiedError(worker.explain_end()) from error
    finally:
        worker.end_process()
    if isinstance(answer, str):
        raise SweeperError(answer)
    return list(answer)


def _answer_question(pipe: Connection, questions: Sequence[EquivalenceQuestion], conditions: Conditions) -> None:
    try:
        pipe.send(_compute_distances(questions, conditions))
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")


def _compute_distances(questions: Sequence[EquivalenceQuestion], conditions: Conditions) -> list[float]:
    from sweeper.losses.gradient_distance import ComparedLoss, measure_gradient_distances

    register_user_losses(conditions.losses)
    dataset = conditions.dataset
    train = get_split(conditions, conditions.seed).train
    pairs = [(ComparedLoss(q.family, q.params), ComparedLoss(q.is_family, q.is_params)) for q in questions]
    frequencies = RULES[dataset.task].make_frequencies(dataset, train)
    return measure_gradient_distances(pairs, _sample_labels(dataset, train), dataset.task, frequencies, enough=CLOSE)


def _sample_labels(dataset: Dataset, train: Sequence[int]) -> LabelMap:
    """Sample the labels (N, H, W) of training images, cropped or padded to one size.

    Half of them are spread evenly; the others have the most pixels of each class in turn, the rarest first, as a
    class's weight has no effect where it does not occur.
    """
    store = open_store(dataset.store)
    pixels = np.array([dataset.images[i].pixels for i in train])
    rarest = np.argsort(pixels.sum(axis=0))
    rich = [(train[int(pixels[:, c].argmax())], int(c)) for c in np.resize(rarest, IMAGES // 2)]
    spread = [(train[i], 0) for i in np.linspace(0, len(train) - 1, IMAGES // 2).round().astype(int)]
    chosen = list(dict.fromkeys([*rich, *spread]))
    sides = [dataset.images[i] for i, _ in chosen]
    height, width = (min(SIDE, max(getattr(p, side) for p in sides)) for side in ("height", "width"))
    rules, masks = RULES[dataset.task], [store.get_mask(index) for index, _ in chosen]
    batch = np.full((len(chosen), height, width), rules.get_ignored_label(len(dataset.classes)), dtype=masks[0].dtype)
    for row, mask, (_, label) in zip(batch, masks, chosen, strict=True):
        part = _cut_window(mask, rules.mark_class(mask, label, len(dataset.classes)), height, width)
        row[: part.shape[0], : part.shape[1]] = part
    return batch


def _cut_window(mask: LabelMap, marks: npt.NDArray[np.bool_], height: int, width: int) -> LabelMap:
    """Crop a mask around the middle of the marked pixels, or of the mask if none is marked."""
    where = np.argwhere(marks)
    middle = np.median(where, axis=0) if len(where) else np.array(mask.shape) / 2
    starts = [
        int(np.clip(m - want / 2, 0, max(0, have - want)))
        for m, want, have in zip(middle, (height, width), mask.shape, strict=True)
    ]
    return mask[starts[0] : starts[0] + height, starts[1] : starts[1] + width]
