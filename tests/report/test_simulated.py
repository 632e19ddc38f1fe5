"""Whole studies simulated from literal distributions, for the report's tests: nothing is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sweeper.core import metrics
from sweeper.core.operating_points import BINS, TAUS, THRESHOLDS
from sweeper.core.records import (
    Collapse,
    Dataset,
    Evaluation,
    ImageCounts,
    Predictions,
    Recommendation,
    SweepRecord,
    TrialResult,
    TrialSpec,
)
from sweeper.evidence.paired_comparisons import weigh
from sweeper.evidence.recommendation import recommend
from tests.support import builders

STREET = ("road", "building", "vegetation", "person", "animal", "sign")
SHARES = (0.62, 0.22, 0.14, 0.012, 0.006, 0.002)
SIDE = 96


@dataclass(frozen=True)
class Study:
    sweep: SweepRecord
    recommendation: Recommendation
    pixels: Callable[[int], tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]


def snippet(family: str, params: dict[str, float], point: float, lr: float) -> str:
    arguments = "".join(f", {name}={value!r}" for name, value in params.items())
    return f'from sweeper.losses import build_loss\n\nloss = build_loss("{family}", task="binary"{arguments})\n'


def pixels(index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """A dark wavy line on noisy ground."""
    rng = np.random.default_rng(index)
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    x = np.arange(SIDE)
    y = (SIDE / 2 + 25 * np.sin(x / (9 + index)) + rng.normal(0, 0.8, SIDE)).astype(int).clip(1, SIDE - 2)
    for shift in (-1, 0, 1):
        mask[y + shift, x] = 1
    mask[:5, :10] = 255
    image = rng.normal(150, 14, (SIDE, SIDE, 3)) - 60 * (mask == 1)[..., None]
    return image.clip(0, 255).astype(np.uint8), mask


def street_pixels(index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Bands of road, building and trees with small things on them."""
    rng = np.random.default_rng(index)
    mask = np.zeros((64, SIDE), dtype=np.uint8)
    mask[:25], mask[25:35] = 1, 2
    for label in (3, 4, 5):
        at = rng.integers(5, SIDE - 12)
        mask[30 : 42 - 2 * label, at : at + 9 - label] = label
    mask[60:, :4] = 255
    image = rng.normal(60 + 30 * np.minimum(mask, 6)[..., None], 9, (64, SIDE, 3))
    return image.clip(0, 255).astype(np.uint8), mask


def spoiled(mask: npt.NDArray[np.uint8], rate: float, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """A prediction: the mask with a share of its rare pixels lost and a false blob."""
    answer = np.where(mask == 255, 0, mask).astype(np.uint8)
    answer[(answer != 0) & (rng.random(mask.shape) < rate)] = 0
    at = rng.integers(0, mask.shape[0] - 12)
    answer[at : at + round(12 * rate) + 1, 10:16] = 1
    return answer


def logit_counts(strength: float, shift: float, rng: np.random.Generator, images: int) -> ImageCounts:
    """Binary counts of Gaussian logits: foreground at +strength + shift, background at −strength − 2 + shift."""
    data = np.zeros((images, 2, BINS), dtype=np.int64)
    edges = np.linspace(-12, 12, BINS + 1)
    for i in range(images):
        difficulty = rng.normal(0, 0.3)
        for true, centre, n in ((0, -strength - 2, 9000), (1, strength, 160)):
            logits = rng.normal(centre + shift - difficulty * (1 if true else 0), 1.6, n)
            data[i, true] = np.histogram(np.clip(logits, -11.99, 11.99), edges)[0]
    return ImageCounts(kind="histogram", images=tuple(range(images)), points=THRESHOLDS, data=data)


def class_counts(strength: float, rng: np.random.Generator, images: int, shift: float) -> ImageCounts:
    """Multi-class counts whose quality peaks at τ = shift and falls for rare classes."""
    data = np.zeros((images, len(TAUS), len(STREET), 3), dtype=np.int64)
    for i in range(images):
        luck = rng.normal(0, 0.04)
        for t, tau in enumerate(TAUS):
            for c, share in enumerate(SHARES):
                hit = np.clip(strength + luck + 0.1 * np.log10(share) - 0.08 * (tau - shift) ** 2, 0.02, 0.98)
                size = max(2, round(6144 * share))
                tp = round(size * hit)
                data[i, t, c] = tp, round((size - tp) * 0.8), size - tp
    return ImageCounts(kind="points", images=tuple(range(images)), points=TAUS, data=data)


def evaluation(step: int, steps: int, counts: ImageCounts, height: float, lr: float) -> Evaluation:
    point, value = metrics.best_point(counts)
    grown = height + (1 - height) * (1 - np.exp(-4 * step / steps))
    chosen = metrics.scores(metrics.at_point(counts, point))
    default = metrics.scores(metrics.at_point(counts, 0.5 if counts.kind == "histogram" else 0.0))
    if step < steps:
        chosen = chosen.model_copy(update={"miou": chosen.miou * grown})
    return Evaluation(
        step=step, value=min(1.0, value * (grown if step < steps else 1)), point=point, chosen=chosen, default=default,
        train_loss=1 / step, lr=lr, images=len(counts.images), val_images=len(counts.images),
        seconds=0.12 * step,
    )  # fmt: skip


def study(
    levels: dict[str, float],
    *,
    multiclass: bool = False,
    trials: int = 50,
    images: int = 60,
    test: int = 24,
    seed: int = 0,
    families: tuple[str, ...] = builders.ORDER,
) -> Study:
    """A finished study; `levels` maps the confirmed families to how well they separate the classes."""
    rng = np.random.default_rng(seed)
    data = _dataset(multiclass, images, rng)
    space = builders.space(families, data.task)

    def counts(family: str, n: int, luck: float) -> ImageCounts:
        level = levels.get(family, min(levels.values()) - (0.05 if multiclass else 0.3))
        shift = {"weighted_ce": 2.0, "focal": -0.8, "cross_entropy": -0.5}.get(family, 0.2)
        if multiclass:
            return class_counts(level + 0.03 * luck, rng, n, shift / 3)
        return logit_counts(level + 0.15 * luck, shift, rng, n)

    search = [_search_trial(i, families[i % len(families)], space, counts, rng) for i in range(trials)]
    leaders = {}
    for family in levels:
        done = [t for t in search if t.spec.family == family and t.state == "complete"]
        leaders[family] = max(done, key=lambda t: t.value or 0)
    show = street_pixels if multiclass else pixels
    confirmed = []
    for family, leader in leaders.items():
        for s in builders.CONFIRM_SEEDS:
            luck = rng.normal(0, 0.4)
            validated, tested = counts(family, 12, luck), counts(family, test, luck)
            steps = [evaluation(k, 200, validated, 0.5, leader.spec.lr) for k in (50, 100, 150, 200)]
            masks = tuple(spoiled(show(i)[1], 0.6 - 0.1 * levels[family], rng) for i in range(6))
            spec = leader.spec.model_copy(
                update={"purpose": "confirm", "number": len(confirmed), "seed": s, "steps": 200}
            )
            shown = Predictions(images=tuple(range(6)), masks=masks)
            confirmed.append(_result(spec, steps, test=tested, run_id=f"{family}{s}", predictions=shown))
    evidence = weigh(confirmed, leaders, classes=data.classes, rope=0.01)
    recommendation = recommend(evidence, task=data.task, order=builders.ORDER, snippet=snippet)
    sweep = builders.sweep(
        search, confirmed, data, space=space, trials_asked=trials, conditions=builders.conditions(data)
    )
    return Study(sweep, recommendation, show)


def _dataset(multiclass: bool, images: int, rng: np.random.Generator) -> Dataset:
    if not multiclass:
        made = builders.dataset(images=images, side=SIDE)
        sizes = rng.integers(60, 300, images)
        each = [
            p.model_copy(update={"pixels": (SIDE * SIDE - int(n), int(n))})
            for p, n in zip(made.images, sizes, strict=True)
        ]
        return made.model_copy(update={"name": "cracks", "images": tuple(each)})
    made = builders.dataset(STREET, images, SIDE, name="street")
    each = [p.model_copy(update={"pixels": tuple(round(SIDE * SIDE * s) for s in SHARES)}) for p in made.images]
    return made.model_copy(update={"images": tuple(each)})


def _search_trial(number, family, space, counts, rng) -> TrialResult:  # type: ignore[no-untyped-def]
    coordinates = next(f.coordinates for f in space.families if f.family == family)
    params = {}
    quality = 0.0
    for name, c in coordinates.items():
        place = rng.random()
        quality -= abs(place - 0.4)
        value = c.low + place * (c.high - c.low)
        params[name] = float(99.0**value) if c.kind == "power_of_imbalance" else float(value)
    lr = float(np.exp(rng.uniform(np.log(3e-4), np.log(1e-2))))
    quality -= 0.6 * abs(np.log(lr / 2e-3))
    spec = TrialSpec(purpose="search", number=number, family=family, params=params, lr=lr, seed=0, steps=100)
    draw = rng.random()
    if number > 10 and draw < 0.03:
        return _result(
            spec, [], state="failed", value=None, reason="RuntimeError: =1+1 | <b>out of memory</b>\nat step 3"
        )
    if number > 7 and draw < 0.06:
        return _result(spec, [], value=0.0, collapse=Collapse.DIVERGED, collapse_at_default=Collapse.DIVERGED)
    pruned = number > 7 and draw < 0.45
    at = (25, 50) if pruned else (25, 50, 75, 100)
    validated = counts(family, 6, 2 * quality + rng.normal(0, 0.5))
    steps = [evaluation(k, 100, validated, 0.5, lr) for k in at]
    weak = Collapse.ALL_BACKGROUND if family == "weighted_ce" else Collapse.NONE
    return _result(spec, steps, state="pruned" if pruned else "complete", collapse_at_default=weak, run_id=f"t{number}")


def _result(spec: TrialSpec, steps: list[Evaluation], **changes: object) -> TrialResult:
    values = {"value": steps[-1].value if steps else None, **changes}
    base = builders.trial(spec.family, 0.5, spec.number, spec=spec, evaluations=tuple(steps))
    return base.model_copy(update=values)


def cracks(**changes: object) -> Study:
    """Binary, dice_focal clearly ahead."""
    levels = {"dice_focal": 2.3, "dice_ce": 1.75, "tversky": 1.5, "cross_entropy": 1.2}
    return study(levels, **changes)  # type: ignore[arg-type]


def street(**changes: object) -> Study:
    """Multi-class, four losses close together."""
    levels = {"dice_ce": 0.905, "focal": 0.9, "weighted_ce": 0.88, "cross_entropy": 0.87}
    return study(levels, multiclass=True, **changes)  # type: ignore[arg-type]


def test_the_simulated_studies_round_trip_through_json_and_reach_different_verdicts() -> None:
    first, second = cracks(trials=20), street(trials=20)
    assert SweepRecord.model_validate_json(first.sweep.model_dump_json()).study == first.sweep.study
    assert first.recommendation.verdict != second.recommendation.verdict
