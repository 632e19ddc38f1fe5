"""Whole studies simulated from literal distributions, for the report's tests: nothing is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sweeper.core import point_choice
from sweeper.core.records import Collapse, Evidence, FinalComparison, ImageCounts, Predictions, SweepRecord
from sweeper.core.records.training import BINS, THRESHOLDS
from sweeper.evidence.answer import make_answer
from sweeper.evidence.class_table import make_class_table
from sweeper.evidence.document import AnswerDocument
from sweeper.evidence.other_metrics import measure_classes
from sweeper.evidence.paired_comparisons import compute_evidence
from sweeper.workflow.conclude import Conclusion, make_document
from sweeper.workflow.study_remarks import list_study_remarks, list_study_steps
from tests.support import builders

Image = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]
STREET = ("road", "building", "vegetation", "person", "animal", "sign")
SHARES = (0.62, 0.22, 0.14, 0.012, 0.006, 0.002)
SIDE = 96


@dataclass(frozen=True)
class Study:
    sweep: SweepRecord
    evidence: Evidence
    document: AnswerDocument
    pixels: Callable[[int], Image]


SNIPPET = 'from sweeper.losses import build_loss\n\nloss = build_loss("dice", task="binary")\n'


def conclude(sweep: SweepRecord, evidence: Evidence | None, look: FinalComparison | None = None) -> AnswerDocument:
    """Return the document of a study with this evidence, whatever its trainings."""
    answer, _ = make_answer(evidence, builders.ORDER, present="cross_entropy", final=look, resume=sweep.resume_command)
    table = make_class_table(evidence, sweep.profile, answer.used)
    if answer.use is not None:
        answer = answer.model_copy(update={"use": answer.use.model_copy(update={"snippet": SNIPPET})})
    remarks = (*list_study_remarks(sweep, evidence, table, ()), *answer.remarks)
    answer = answer.model_copy(update={"remarks": remarks})
    answer = answer.model_copy(update={"next": list_study_steps(sweep, answer, evidence, in_final=False)})
    return make_document(sweep, Conclusion(answer, evidence, look))


def pixels(classes: int) -> Callable[[int], Image]:
    """Return a reader of images with an object of each class and a corner without labels."""

    def read(index: int) -> Image:
        rng = np.random.default_rng(index)
        mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
        for label in range(1, classes):
            top, left = rng.integers(5, SIDE - 30, 2)
            mask[top : top + 24 - 3 * label, left : left + 12 - label] = label
        mask[:5, :10] = 255
        image = rng.normal(60 + 30 * np.minimum(mask, 6)[..., None], 9, (SIDE, SIDE, 3))
        return image.clip(0, 255).astype(np.uint8), mask

    return read


def draw_crack_counts(level: float, shift: float, rng: np.random.Generator, images: int) -> ImageCounts:
    """Count Gaussian logits: foreground at +level + shift, background at −level − 2 + shift."""
    data = np.zeros((images, 2, BINS), dtype=np.int64)
    edges = np.linspace(-12, 12, BINS + 1)
    for i in range(images):
        for true, centre, n in ((0, -level - 2, 9000), (1, level + rng.normal(0, 0.3), 160)):
            data[i, true] = np.histogram(np.clip(rng.normal(centre + shift, 1.6, n), -11.99, 11.99), edges)[0]
    return ImageCounts(kind="histogram", images=tuple(range(images)), points=THRESHOLDS, data=data)


def draw_street_counts(level: float, _shift: float, rng: np.random.Generator, images: int) -> ImageCounts:
    """Count answers of which each class is found as well as the others, at any τ."""
    size = np.maximum(2, np.rint(6144 * np.array(SHARES))).astype(np.int64)
    tp = np.rint(size * np.clip(level + rng.normal(0, 0.04, (images, 1)), 0, 1)).astype(np.int64)
    return builders.point_counts(np.stack([tp, size - tp, size - tp], axis=-1))


def spoil_mask(mask: npt.NDArray[np.uint8], rate: float, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Return a prediction: the mask with a share of its pixels lost and a false blob."""
    answer = np.where((mask == 255) | (rng.random(mask.shape) < rate), 0, mask).astype(np.uint8)
    answer[: round(12 * rate) + 1, 10:16] = 1
    return answer


def study(
    levels: dict[str, float],
    classes: tuple[str, ...],
    counts: Callable[[float, float, np.random.Generator, int], ImageCounts],
) -> Study:
    """Return a finished study; `levels` maps the confirmed families to how well they separate the classes."""
    rng, data = np.random.default_rng(0), builders.dataset(classes, images=60, side=SIDE)
    read = pixels(len(classes))
    search = [builders.trial(f, 0.5 + 0.02 * i, i, len(classes)) for i, f in enumerate(builders.ORDER)]
    search.append(builders.trial("dice", 0.4, 7, len(classes), state="pruned"))
    search.append(builders.failed_trial("dice", 8, "RuntimeError: =1+1 | <b>out of memory</b>\nat step 3"))
    search.append(builders.trial("focal", 0.0, 9, len(classes), evaluations=(), collapse=Collapse.DIVERGED))
    confirmed = []
    for family, level in levels.items():
        shift = {"weighted_ce": 2.0, "focal": -0.8, "cross_entropy": -0.5}.get(family, 0.2)
        for seed in builders.CONFIRM_SEEDS:
            separation = level + 0.03 * rng.normal()
            point, value = point_choice.find_best_point(counts(separation, shift, rng, 12))
            masks = tuple(spoil_mask(read(i)[1], 0.6 - 0.1 * level, rng) for i in range(6))
            run = builders.confirmation(
                family, seed, counts(separation, shift, rng, 24), len(confirmed), val=value, point=point, rise=0.02
            )
            predictions = Predictions(images=tuple(range(6)), masks=masks)
            confirmed.append(run.model_copy(update={"predictions": predictions}))
    origins = {trial.spec.family: trial for trial in search[: len(builders.ORDER)]}
    evidence = compute_evidence(confirmed, origins, classes=data.classes, margin=0.01)
    per_class = measure_classes(confirmed, evidence, np.full(len(classes), 0.05))
    evidence = evidence.model_copy(update={"per_class": per_class})
    first = next(family for family in levels if family != "cross_entropy")
    sweep = builders.sweep(search, confirmed, data)
    return Study(sweep, evidence, conclude(sweep, evidence, builders.final_comparison(first)), read)


def cracks() -> Study:
    """Return a binary study, with dice_focal clearly ahead."""
    levels = {"dice_focal": 2.3, "dice_ce": 1.75, "tversky": 1.5, "cross_entropy": 1.2}
    return study(levels, builders.BINARY, draw_crack_counts)


def street() -> Study:
    """Return a study of several classes, with four losses close together."""
    levels = {"dice_ce": 0.905, "focal": 0.9, "weighted_ce": 0.88, "cross_entropy": 0.87}
    return study(levels, STREET, draw_street_counts)
