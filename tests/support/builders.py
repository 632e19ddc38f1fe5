"""Small literal records for tests: every function gives a complete, valid record whose parts can be overridden.

Import as `from tests.support.builders import dataset, trial, sweep`. Nothing here trains, reads a file, or draws from
the global random state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sweeper.core.recipe import Recipe
from sweeper.core.records import (
    AnalysisTaken,
    ClassEvidence,
    ClassProfile,
    Collapse,
    Comparison,
    Conditions,
    Coordinate,
    Dataset,
    Evaluation,
    Evidence,
    FamilySpace,
    FinalComparison,
    FinalistEvidence,
    ImageCounts,
    ImageInfo,
    ImbalanceProfile,
    InterimAnalysis,
    Interval,
    MetricScores,
    Outcome,
    PartScores,
    Predictions,
    SearchSpace,
    StudyRates,
    SweepRecord,
    TrialResult,
    TrialSpec,
)
from sweeper.core.records.training import BINS, TAUS, THRESHOLDS
from sweeper.core.tasks import RULES

BINARY = ("background", "crack")
STREET = ("road", "animal", "sign")
ORDER = ("cross_entropy", "weighted_ce", "focal", "dice", "tversky", "dice_ce", "dice_focal")
"""The declared order of simplicity, as `list(sweeper.losses.FAMILIES)` gives it."""
CONFIRM_SEEDS = (1000, 1001, 1002)

PARAMS: dict[str, dict[str, float]] = {
    "cross_entropy": {},
    "weighted_ce": {"pos_weight": 8.0},
    "focal": {"gamma": 2.0, "alpha": 0.25},
    "dice": {},
    "tversky": {"fn_weight": 0.7},
    "dice_ce": {"mix": 0.5, "pos_weight": 2.0},
    "dice_focal": {"mix": 0.41, "gamma": 2.2},
}


# --- Data and conditions ------------------------------------------------------------------------------------


LR = 0.003
"""Learning rate of all trainings."""


def dataset(
    classes: Sequence[str] = BINARY, images: int | Sequence[ImageInfo] = 10, side: int = 20, **changes: Any
) -> Dataset:
    """Return these images, or so many square ones, in which the share of pixels falls tenfold from class to class."""
    total = side * side
    rare = [max(1, total // 10**c // 2) for c in range(1, len(classes))]
    pixels = (total - sum(rare), *rare)
    values: dict[str, Any] = {
        "name": "toy",
        "source": "synthetic:toy",
        "digest": "sha256:" + "0" * 64,
        "task": "binary" if len(classes) == 2 else "multiclass",
        "classes": tuple(classes),
        "channels": 3,
        "synthetic": True,
        "store": "nowhere",
        "images": tuple(images)
        if isinstance(images, Sequence)
        else tuple(ImageInfo(stem=f"p{i:03d}", height=side, width=side, pixels=pixels) for i in range(images)),
    }
    return Dataset(**values | changes)


def counted_dataset(
    pixels: Sequence[Sequence[int]], splits: Sequence[Any] | None = None, groups: Sequence[Any] | None = None
) -> Dataset:
    """Return a set with only label counts: of each image the pixels of the classes c0, c1 …, given split and group."""
    none = [None] * len(pixels)
    images = [
        ImageInfo(stem=f"{i:04d}", height=1, width=max(1, sum(row)), pixels=tuple(row), split=split, group=group)
        for i, (row, split, group) in enumerate(zip(pixels, splits or none, groups or none, strict=True))
    ]
    return dataset([f"c{i}" for i in range(len(pixels[0]))], images)


def conditions(data: Dataset | None = None, seed: int = 0, **recipe: Any) -> Conditions:
    """Return a study's conditions; keyword arguments change the recipe."""
    return Conditions(dataset=data or dataset(), recipe=Recipe(**recipe), seed=seed)


def profile(data: Dataset | None = None) -> ImbalanceProfile:
    """Return the imbalance of `data`, from its label counts; component sizes are made up."""
    data = data or dataset()
    pixels = data.count_class_pixels()
    share = pixels / pixels.sum()
    imbalance = float(pixels[0] / pixels[1]) if data.task == "binary" else float(pixels.max() / pixels.min())
    weights = 1 / share / len(share)
    return ImbalanceProfile(
        images=len(data.images),
        labelled_pixels=int(pixels.sum()),
        ignored_share=0.0,
        empty_images=0,
        classes=tuple(
            ClassProfile(
                name=name,
                pixel_share=float(s),
                image_share=1.0,
                components=len(data.images),
                component_pixels=(4.0, 10.0, 20.0),
                thinness=0.5,
            )
            for name, s in zip(data.classes, share, strict=True)
        ),
        imbalance=imbalance,
        pos_weight=imbalance if data.task == "binary" else None,
        alpha=imbalance / (1 + imbalance) if data.task == "binary" else None,
        class_weights=tuple(float(w) for w in weights),
    )


def space(task: str = "binary") -> SearchSpace:
    """Return a search space that contains the coordinates of PARAMS."""
    ranges = {
        "pos_weight": Coordinate(kind="power_of_imbalance", low=0.0, high=1.1),
        "gamma": Coordinate(kind="uniform", low=0.0, high=5.0),
        "alpha": Coordinate(kind="uniform", low=0.05, high=0.95),
        "fn_weight": Coordinate(kind="uniform", low=0.3, high=0.9),
        "mix": Coordinate(kind="uniform", low=0.0, high=1.0),
    }
    return SearchSpace.model_validate(
        {
            "name": task,
            "task": task,
            "lr": Coordinate(kind="log", low=3e-4, high=1e-2),
            "families": tuple(
                FamilySpace(family=f, coordinates={name: ranges[name] for name in PARAMS[f]}) for f in ORDER
            ),
        }
    )


# --- Counts -------------------------------------------------------------------------------------------------


def histogram_counts(tp: Sequence[int], fp: Sequence[int], fn: Sequence[int], tn: Sequence[int]) -> ImageCounts:
    """Return binary counts, one entry per image; every prediction is at logit ±2, so that 0.5 gives these counts."""
    data = np.zeros((len(tp), 2, BINS), dtype=np.int64)
    low, high = 213, 298  # the bins of logits −2 and +2
    data[:, 1, high], data[:, 1, low] = tp, fn
    data[:, 0, high], data[:, 0, low] = fp, tn
    return ImageCounts(kind="histogram", images=tuple(range(len(tp))), points=THRESHOLDS, data=data)


def point_counts(class_counts: npt.ArrayLike) -> ImageCounts:
    """Return multi-class counts (n, C, 3) that are the same at every τ."""
    counts = np.asarray(class_counts, dtype=np.int64)
    data = np.repeat(counts[:, None], len(TAUS), axis=1)
    return ImageCounts(kind="points", images=tuple(range(len(counts))), points=TAUS, data=data)


def counts_from_iou(fg_iou: npt.ArrayLike, foreground: npt.ArrayLike = 200, pixels: int = 10_000) -> ImageCounts:
    """Return binary counts of images with this foreground IoU (up to rounding); shapes (n,) or a number each.

    The errors are shared equally by false positives and false negatives.
    """
    iou, size = np.broadcast_arrays(np.clip(np.asarray(fg_iou, dtype=float), 0.0, 1.0), np.asarray(foreground))
    wrong = np.rint(size * (1 - iou) / (1 + iou)).astype(np.int64)  # FN = FP = wrong, TP = size − wrong
    tp = size - wrong
    tn = pixels - size - wrong
    return histogram_counts(tp.tolist(), wrong.tolist(), wrong.tolist(), tn.tolist())


# --- Trials -------------------------------------------------------------------------------------------------


def scores(miou: float = 0.7, classes: int = 2) -> MetricScores:
    """Return the scores with every class at the same IoU."""
    dice = 2 * miou / (1 + miou)
    return MetricScores(
        miou=miou,
        fg_iou=miou if classes == 2 else None,
        dice=dice,
        iou=(miou,) * classes,
        precision=(dice,) * classes,
        recall=(dice,) * classes,
    )


def evaluation(step: int, value: float, point: float = 0.5, classes: int = 2, **changes: Any) -> Evaluation:
    """Return one evaluation whose mIoU is `value` at the chosen point and a little less at the default."""
    values: dict[str, Any] = {
        "step": step,
        "value": value,
        "point": point,
        "chosen": scores(value, classes),
        "default": scores(max(0.0, value - 0.01), classes),
        "train_loss": 0.5,
        "lr": 1e-3,
        "images": 4,
        "val_images": 4,
        "seconds": step * 0.1,
    }
    return Evaluation(**values | changes)


def curve_on_part(on_part: Sequence[float], on_all: float | None = None, steps: int = 100) -> tuple[Evaluation, ...]:
    """Return a training's evaluations on 8 of 20 images; with `on_all`, the last of them is the end, on all 20."""
    evaluations = [evaluation(steps * (i + 1) // 4, v, images=8, val_images=20) for i, v in enumerate(on_part)]
    if on_all is not None:
        part = PartScores(**{name: getattr(evaluations[-1], name) for name in PartScores.model_fields})
        evaluations[-1] = evaluation(evaluations[-1].step, on_all, images=20, val_images=20, part=part)
    return tuple(evaluations)


def curve(final: float, steps: int = 100, rise: float = 0.0, point: float = 0.5, classes: int = 2) -> tuple[Any, ...]:
    """Return four evaluations that end at `final`, the last quarter adding `rise`."""
    heights = (0.5 * final, 0.8 * final, final - rise, final)
    return tuple(evaluation(steps * (i + 1) // 4, max(0.0, h), point, classes) for i, h in enumerate(heights))


def spec(family: str = "dice_focal", number: int = 0, seed: int = 0, **changes: Any) -> TrialSpec:
    """Return a search trial's spec with the family's parameters of PARAMS."""
    values: dict[str, Any] = {
        "purpose": "search",
        "number": number,
        "family": family,
        "params": PARAMS.get(family, {}),
        "lr": LR,
        "seed": seed,
        "steps": 100,
    }
    return TrialSpec(**values | changes)


def trial(
    family: str = "dice_focal", value: float = 0.7, number: int = 0, classes: int = 2, **changes: Any
) -> TrialResult:
    """Return a completed search trial; keyword arguments change the result, `spec=` included."""
    values: dict[str, Any] = {
        "spec": spec(family, number),
        "state": "complete",
        "value": value,
        "evaluations": curve(value, point=0.5 if classes == 2 else 0.0, classes=classes),
        "seconds": 10.0,
        "seconds_per_step": 0.1,
        "device": "cpu, 1 thread",
        "run_id": f"run-search-{number}",
    }
    return TrialResult(**values | changes)


def failed_trial(family: str = "dice", number: int = 0, reason: str = "it raised", **changes: Any) -> TrialResult:
    """Return a trial that raised."""
    values: dict[str, Any] = {"state": "failed", "evaluations": (), "reason": reason} | changes
    return trial(family, 0.0, number, **values).model_copy(update={"value": None})


def confirmation(
    family: str = "dice_focal",
    seed: int = 1000,
    test: ImageCounts | None = None,
    number: int = 0,
    *,
    rise: float = 0.0,
    val: float = 0.7,
    point: float | None = None,
    **changes: Any,
) -> TrialResult:
    """Return a completed confirmation training; `test` defaults to five images with foreground IoU 0.5."""
    test = counts_from_iou([0.5] * 5) if test is None else test
    classes = 2 if test.kind == "histogram" else test.data.shape[2]
    point = RULES[test.task].plain_point if point is None else point
    values: dict[str, Any] = {
        "spec": spec(family, number, seed, purpose="confirm", steps=200),
        "evaluations": curve(val, 200, rise, point, classes),
        "test": test,
        "run_id": f"run-confirm-{family}-{seed}",
        "predictions": Predictions(
            images=test.images[:2], masks=tuple(np.eye(8, dtype=np.uint8) for _ in test.images[:2])
        ),
    }
    return trial(family, val, number, classes, **values | changes)


def diverged(family: str = "dice_focal", seed: int = 1000, number: int = 0, **changes: Any) -> TrialResult:
    """Return a confirmation training that diverged before its first evaluation and has no counts."""
    nothing = {"value": 0.0, "evaluations": (), "test": None, "predictions": None}
    kind = {"collapse": Collapse.DIVERGED, "collapse_at_default": Collapse.DIVERGED}
    return confirmation(family, seed, None, number, **kind | changes).model_copy(update=nothing)


def simulated_confirmations(
    levels: dict[str, float],
    rng: np.random.Generator,
    *,
    images: int = 24,
    seeds: Sequence[int] = CONFIRM_SEEDS,
    seed_sd: float = 0.01,
    image_sd: float = 0.12,
    interaction_sd: float = 0.04,
) -> list[TrialResult]:
    """Return confirmations of binary losses with known true foreground IoU and the noise of real trainings.

    Each image has a difficulty shared by all runs (`image_sd`), each pair of loss and image its own
    (`interaction_sd`, on top of it an equal part for each run), each training its own level (`seed_sd`, in mIoU; in
    foreground IoU it is about twice that). Images differ threefold in foreground.
    """
    difficulty = rng.normal(0, image_sd, images)
    foreground = rng.integers(100, 300, images)
    results = []
    for f, (family, level) in enumerate(levels.items()):
        liking = rng.normal(0, interaction_sd, images)
        for s, seed in enumerate(seeds):
            luck = 2 * rng.normal(0, seed_sd)
            interaction = rng.normal(0, interaction_sd, images)
            counts = counts_from_iou(level + difficulty + liking + interaction + luck, foreground)
            results.append(confirmation(family, seed, counts, f * len(seeds) + s))
    return results


# --- Evidence -----------------------------------------------------------------------------------------------


def interval(estimate: float, half: float = 0.02) -> Interval:
    """Return a symmetric interval."""
    return Interval(estimate=estimate, low=estimate - half, high=estimate + half, se_seed=0.005, se_image=0.005)


def finalist(family: str = "dice_focal", miou: float = 0.7, **changes: Any) -> FinalistEvidence:
    """Return a finalist confirmed on three seeds."""
    values: dict[str, Any] = {
        "family": family,
        "params": PARAMS.get(family, {}),
        "lr": LR,
        "search_trial": 0,
        "search_value": miou + 0.01,
        "seeds": CONFIRM_SEEDS,
        "run_ids": tuple(f"run-confirm-{family}-{s}" for s in CONFIRM_SEEDS),
        "points": (0.4, 0.47, 0.5),
        **dict.fromkeys(("miou", "score"), interval(miou)),
        "skill": round(miou - 0.49, 9),
        "score_at_default": miou - 0.01,
        "fg_iou": interval(2 * miou - 0.98, 0.04),
        "dice": 2 * miou / (1 + miou),
        "iou": (0.98, 2 * miou - 0.98),
        "precision": (0.99, 0.6),
        "recall": (0.99, 0.63),
        "collapses": 0,
        "still_rising": 0.0,
    }
    return FinalistEvidence(**values | changes)


def class_evidence(name: str, scores: Sequence[float], half: float = 0.02, **changes: Any) -> ClassEvidence:
    """Return a class with these IoUs of the finalists, all of whose trainings learned it; `gains` are numbers."""
    gains = [interval(gain, half) for gain in changes.pop("gains", ())]
    values: dict[str, Any] = {
        "name": name,
        "scores": tuple(interval(score, half) for score in scores),
        "gains": tuple(gains),
        "established": tuple(gain.low * gain.high > 0 for gain in gains),
        "learned": (len(CONFIRM_SEEDS),) * len(scores),
        "missed": (0,) * len(scores),
    }
    return ClassEvidence(**values | changes)


def evidence(
    levels: dict[str, float],
    half: float = 0.02,
    margin: float = 0.01,
    halves: dict[tuple[str, str], float] | None = None,
    finalists: dict[str, dict[str, Any]] | None = None,
    **changes: Any,
) -> Evidence:
    """Return literal evidence: finalists at these test mIoUs, every paired difference with half-width `half`.

    `halves` sets the half-width of single pairs (either order); `finalists` changes fields of single finalists.
    """
    names, several = sorted(levels, key=lambda f: -levels[f]), len(changes.get("classes", BINARY))
    halves, finalists = halves or {}, finalists or {}
    of_classes: dict[str, Any] = {} if several == 2 else dict.fromkeys(("iou", "precision", "recall"), (0.5,) * several)

    def width(f: str, g: str) -> float:
        return halves.get((f, g), halves.get((g, f), half))

    values: dict[str, Any] = {
        "classes": BINARY,
        "finalists": tuple(finalist(f, levels[f], **of_classes | finalists.get(f, {})) for f in names),
        "comparisons": tuple(
            Comparison(first=i, second=j, difference=interval(levels[f] - levels[g], width(f, g)))
            for i, f in enumerate(names)
            for j, g in enumerate(names)
            if i != j
        ),
        "baseline": names.index("cross_entropy") if "cross_entropy" in names else None,
        "margin": margin,
        "test_images": 24,
        "constant_miou": 0.49,
    }
    return Evidence(**values | changes)


ANALYSES = (
    InterimAnalysis(seeds=3, error=0.01),
    InterimAnalysis(seeds=5, error=0.015),
    InterimAnalysis(seeds=8, error=0.025),
)
ANALYSES_TAKEN = (
    AnalysisTaken(seeds=3, error=0.01, outcome=Outcome.KEEP, code="COST_OPEN"),
    AnalysisTaken(seeds=5, error=0.015, outcome=Outcome.CHANGE, code="SETTLED"),
)


def final_comparison(
    first: str = "dice_ce", second: str = "cross_entropy", before: float = 0.1, after: float = 0.09, **changes: Any
) -> FinalComparison:
    """Return a final training on one seed."""
    values = {"first": first, "second": second, "seeds": 1, "steps": 400, "before": interval(before)}
    return FinalComparison(**{**values, "after": interval(after, 0.04), **changes})


# --- A whole study ------------------------------------------------------------------------------------------


def sweep(
    trials: Sequence[TrialResult] | None = None,
    confirmations: Sequence[TrialResult] | None = None,
    data: Dataset | None = None,
    **changes: Any,
) -> SweepRecord:
    """Make a finished study: seven search trials (one pruned, one failed), three confirmed finalists, all at `LR`."""
    data = data or dataset()
    if trials is None:
        trials = [trial(f, 0.6 + 0.02 * i, i) for i, f in enumerate(ORDER)]
        trials[1] = trials[1].model_copy(update={"state": "pruned", "evaluations": trials[1].evaluations[:2]})
        trials[2] = failed_trial("focal", 2)
    if confirmations is None:
        rng = np.random.default_rng(0)
        levels = {"dice_focal": 0.6, "dice_ce": 0.59, "tversky": 0.5, "cross_entropy": 0.45}
        confirmations = simulated_confirmations(levels, rng, images=len(data.images))
    values: dict[str, Any] = {
        "study": "toy-20261120T0700",
        "created": "2026-11-20T07:00:00Z",
        "conditions": conditions(data),
        "rates": StudyRates(by_family=dict.fromkeys(ORDER, LR)),
        "profile": profile(data),
        "space": space(task=data.task).model_copy(update={"lr": Coordinate(kind="fixed", low=LR, high=LR)}),
        "imbalance": profile(data).imbalance,
        "trials_asked": len(trials),
        "margin": 0.01,
        "trials": tuple(trials),
        "abandoned": 0,
        "confirmations": tuple(confirmations),
        "experiment_id": "1",
        "parent_run_id": "run-parent",
        "seconds": 241.0,
        "command": "sweeper run synthetic:toy",
        "versions": {"sweeper": "0.1.0"},
    }
    return SweepRecord(**values | changes)
