"""Simulated confirmations whose truth is known: test counts of losses with the noise of real trainings.

A loss's foreground IoU on image i in the training of seed s is, before it is clipped to [0, 1],

    level + shared_s + seed_s + image_i + liking_i + group_g + own_si    (twice the mIoU that is quoted here)

`shared`: what a seed does to all losses alike (its split into training and validation images, its initial weights and
crops); `seed`: how well this training went; `image`: how hard the image is for all; `liking`: how it suits this loss;
`group`:
the same of all images of a group (a video, a patient), where there are groups; `own`: what this training does to this
image (the seed × image interaction). False positives and false negatives share the errors; images differ in how much
foreground they hold, which is their weight in the data set's IoU. A scenario may have a rare class besides: it has the
same level and seed noise and its own noise of images, and on images without it some pixels are false alarms.

Where the numbers come from: the two-way table of `sweeper.evidence.intervals`, applied to the confirmations of the
first sweeps with this tool (3 seeds, 200 steps; standard deviations in mIoU, of a single run):

| study | test images | image | liking | own | seed (main effect) | kurtosis of paired differences |
| --- | --: | --: | --: | --: | --: | --: |
| synthetic cracks (reports/example) | 32 | 0.089 | 0–0.007 | 0.019 | 0–0.004 | 3–8 |
| cracks_cfd | 24 | 0.065 | 0–0.012 | 0.014 | 0–0.002 | 3–4 |
| camvid | 45 | 0.027 | 0–0.023 | 0.018 | 0.007–0.028 | 2–5 |

In both binary sets nearly all of what differs between seeds is `own`; in the multi-class one it is the main effect.
`shared` is from the confirmations of later sweeps, where pairing took away 53 to 99 % of the variance over seeds: here
it takes away 58 (street) to 96 % (binary).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from sweeper.core.records import Collapse, ImageCounts, TrialResult, TrialSpec

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

FAMILIES = ("cross_entropy", "dice", "tversky", "focal", "dice_ce", "dice_focal", "lovasz", "top_k")
"""Names of the simulated losses; the first is the baseline."""
SEEDS = 8
"""Seeds of the last interim analysis."""
SHARE = 0.05
"""Foreground of the pixels."""
FOREGROUND = 1000
"""Foreground pixels of a typical image; with fewer, rounding to whole pixels would add a noise of its own."""
FALSE_ALARMS = 5.0
"""Pixels that are wrongly called the rare class on an image without it, on average."""
COLLAPSED = 0.02
"""Foreground IoU of a training that collapsed: a constant answer."""


@dataclass(frozen=True)
class Scenario:
    """Noise of one kind of sweep; standard deviations in mIoU."""

    name: str
    words: str
    images: int
    level: float = 0.5
    """Foreground IoU of every loss, where they are equal."""
    image: float = 0.08
    liking: float = 0.009
    own: float = 0.019
    seed: float = 0.003
    shared: float = 0.02
    """What a seed does to all losses alike."""
    last_seed: float | None = None
    """The last loss's own seed noise; None = the same."""
    sizes: float = 0.4
    """Standard deviation of the log of an image's foreground."""
    tails: float | None = None
    """Degrees of freedom of Student's t for image, liking and own; None = normal."""
    collapse: float = 0.0
    """Share of trainings that collapse."""
    last_collapse: float | None = None
    """The same of the last loss; None = the same."""
    groups: int = 0
    """Groups of related images, all of one size; 0 = each image stands for itself."""
    group: float = 0.0
    """How a group suits a loss."""
    rare: float = 0.0
    """Share of the images that hold the rare class; 0 = there is no such class."""

    @property
    def classes(self) -> tuple[str, ...]:
        return ("background", "object", "rare") if self.rare else ("background", "object")

    def groups_of(self, images: int) -> list[str] | None:
        """Return the group of each of the images."""
        return [f"group {i * self.groups // images}" for i in range(images)] if self.groups else None

    def of_losses(self, usual: float, last: float | None, losses: int) -> Floats:
        """(losses,) with the last one's own value."""
        values = np.full(losses, usual)
        values[-1] = usual if last is None else last
        return values


BINARY = Scenario("binary", "as measured on cracks: interaction, hardly any seed noise", 32)
STREET = Scenario(
    "street", "as measured on camvid: seed noise above all", 45, image=0.03, liking=0.014, own=0.018, seed=0.017
)
UNEQUAL = Scenario("6:1", "the last loss has six times the others' seed noise", 32, seed=0.005, last_seed=0.03)
BOUNDED = Scenario("bounded", "scores pressed against 1", 32, level=0.93, image=0.04, seed=0.006, shared=0.01)
COLLAPSING = Scenario("collapse", "every loss collapses in 15 % of seeds", 32, collapse=0.15)
ONE_COLLAPSES = Scenario("one collapses", "the last loss collapses in 15 % of seeds", 32, last_collapse=0.15)
TAILS = Scenario("tails", "heavy-tailed images of unequal size", 40, seed=0.005, tails=4.0, sizes=0.7, liking=0.012)
FEW_IMAGES = tuple(
    Scenario(f"{n} images", "few test images, which suit the losses differently", n, liking=0.014) for n in (10, 20, 40)
)
RARE = Scenario("rare class", "one of three classes occurs in an eighth of the images", 32, rare=0.125)
FEW_GROUPS = tuple(
    Scenario(f"{n} groups", "images of few videos or patients, each of which suits a loss", 30, groups=n, group=0.02)
    for n in (3, 4, 5)
)
SCENARIOS = (BINARY, STREET, UNEQUAL, BOUNDED, COLLAPSING, ONE_COLLAPSES, TAILS, *FEW_IMAGES, RARE, *FEW_GROUPS)
"""New ones come last: their place keys their random numbers."""


def draw(
    scenario: Scenario,
    losses: int,
    rng: np.random.Generator,
    *,
    gap: float = 0.0,
    gaps: Floats | None = None,
    seeds: int = SEEDS,
    images: int | None = None,
) -> tuple[Counts, npt.NDArray[np.bool_]]:
    """Simulate one sweep: counts (losses, seeds, images, classes, 3) and collapses (losses, seeds).

    The first loss is better than the others by `gap` mIoU; or each than the scenario's level by its own of `gaps`.
    """
    n = scenario.images if images is None else images
    sd_seed = 2 * scenario.of_losses(scenario.seed, scenario.last_seed, losses)
    rate = scenario.of_losses(scenario.collapse, scenario.last_collapse, losses)
    level = np.full((losses, seeds, 1), scenario.level)
    level[0] += 2 * gap
    if gaps is not None:
        level += 2 * gaps[:, None, None]
    level += 2 * scenario.shared * rng.standard_normal((1, seeds, 1))
    level += sd_seed[:, None, None] * rng.standard_normal((losses, seeds, 1))
    iou = level + _of_images(scenario, rng, losses, seeds, n)
    collapsed = rng.random((losses, seeds)) < rate[:, None]
    size = np.maximum(20, FOREGROUND * np.exp(scenario.sizes * rng.standard_normal(n)))
    if scenario.groups:
        suits = rng.standard_normal((losses, 1, scenario.groups))
        iou += 2 * scenario.group * suits[..., np.arange(n) * scenario.groups // n]
    objects = [_errors(iou, collapsed, size)]
    if scenario.rare:
        holds = rng.random(n) < scenario.rare
        holds[rng.permutation(n)[: max(0, 2 - holds.sum())]] = True
        iou = level + _of_images(scenario, rng, losses, seeds, n)
        found = _errors(iou, collapsed, size / 4)
        found[..., ~holds, :] = 0
        found[..., ~holds, 1] = rng.poisson(FALSE_ALARMS, (losses, seeds, n))[..., ~holds]
        objects.append(found)
    errors = np.stack(objects, axis=-2)
    # The background is what is left of the image, and at least half of it; what it lacks the others have too much.
    area = int(FOREGROUND / SHARE)
    missed, extra = errors[..., 2].sum(axis=-1), errors[..., 1].sum(axis=-1)
    held = errors[..., [0, 2]].sum(axis=(-2, -1))
    background = np.stack([np.maximum(area - held - extra, area // 2), missed, extra], axis=-1)
    counts: Counts = np.concatenate([background[..., None, :], errors], axis=-2)
    return counts, collapsed


def _of_images(scenario: Scenario, rng: np.random.Generator, losses: int, seeds: int, n: int) -> Floats:
    """Return the images' effects on a class's IoU, (losses, seeds, images)."""
    iou = np.zeros((losses, seeds, n))
    iou += 2 * scenario.image * _noise(scenario, rng, (n,))
    iou += 2 * scenario.liking * _noise(scenario, rng, (losses, 1, n))
    iou += 2 * scenario.own * _noise(scenario, rng, (losses, seeds, n))
    return iou


def _errors(iou: Floats, collapsed: npt.NDArray[np.bool_], size: Floats) -> Counts:
    """Return a class's true positives, false positives and false negatives, (losses, seeds, images, 3)."""
    iou[collapsed] = COLLAPSED
    np.clip(iou, 0.0, 1.0, out=iou)
    wrong = np.rint(size * (1 - iou) / (1 + iou)).astype(np.int64)  # FP = FN: IoU = (size − wrong) / (size + wrong)
    return np.stack([np.rint(size).astype(np.int64) - wrong, wrong, wrong], axis=-1)


def _noise(scenario: Scenario, rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Standardised noise of images: variance 1, heavy tails where the scenario has them."""
    if scenario.tails is None:
        return rng.standard_normal(shape)
    drawn: Floats = rng.standard_t(scenario.tails, shape) / np.sqrt(scenario.tails / (scenario.tails - 2))
    return drawn


def trainings(counts: Counts, collapsed: npt.NDArray[np.bool_]) -> list[list[TrialResult]]:
    """Return the counts as results of confirmation trainings, `[loss][seed]`."""
    losses, seeds, n = counts.shape[:3]
    images = tuple(range(n))

    def training(f: int, s: int) -> TrialResult:
        # Checking the records again and again would take longer than weighing them.
        spec = TrialSpec.model_construct(
            purpose="confirm", number=f * seeds + s, family=FAMILIES[f], params={}, lr=1e-3, seed=s, steps=200
        )
        test = ImageCounts.model_construct(kind="points", images=images, points=(0.0,), data=counts[f, s, :, None])
        kind = Collapse.NO_BETTER_THAN_CONSTANT if collapsed[f, s] else Collapse.NONE
        return TrialResult.model_construct(
            spec=spec,
            state="complete",
            value=0.7,
            evaluations=(),
            collapse=kind,
            collapse_at_default=kind,
            test=test,
            seconds=1.0,
            seconds_per_step=None,
            device="simulated",
            run_id=None,
        )

    return [[training(f, s) for s in range(seeds)] for f in range(losses)]


def searched(losses: int) -> dict[str, TrialResult]:
    """Return the search trials that the finalists come from."""
    spec = TrialSpec(purpose="search", number=0, family=FAMILIES[0], params={}, lr=1e-3, seed=0, steps=100)
    trial = TrialResult(
        spec=spec,
        state="complete",
        value=0.7,
        evaluations=(),
        collapse=Collapse.NONE,
        collapse_at_default=Collapse.NONE,
        seconds=1.0,
        seconds_per_step=None,
        device="simulated",
    )
    return {
        family: trial.model_copy(update={"spec": spec.model_copy(update={"family": family, "number": k})})
        for k, family in enumerate(FAMILIES[:losses])
    }


def miou(counts: Counts) -> Floats:
    """(losses, seeds, images, classes, 3) → mIoU of each training, (losses, seeds)."""
    summed = counts.sum(axis=2).astype(np.float64)
    values: Floats = (summed[..., 0] / summed.sum(axis=-1)).mean(axis=-1)
    return values


@lru_cache
def _response(scenario: Scenario) -> tuple[Floats, Floats]:
    """Levels that are asked for, and the true mIoU that comes of them, relative to the scenario's own level.

    Where scores are clipped or heavy-tailed these are not the same.
    """
    asked = np.linspace(-0.08, 0.08, 17)
    plain = replace(scenario, last_seed=None, last_collapse=None, collapse=0.0)
    found = []
    for level in asked:
        rng = np.random.default_rng(11)  # the same numbers for all levels
        drawn = (draw(plain, 1, rng, gaps=np.array([level]), seeds=10, images=3000)[0] for _ in range(6))
        found.append(np.mean([miou(counts).mean() for counts in drawn]))
    response = np.array(found)
    return asked, response - response[len(asked) // 2]


def true_gaps(scenario: Scenario, gaps: Floats) -> Floats:
    """Return the true mean mIoU of losses drawn with these `gaps`, relative to the scenario's level; no collapse."""
    found: Floats = np.interp(gaps, *_response(scenario))
    return found


@lru_cache
def population(scenario: Scenario, losses: int, draws: int = 150) -> Floats:
    """Simulate the true mean mIoU of each loss, (losses,), over the populations of seeds and images."""
    rng = np.random.default_rng(1)
    found = [miou(draw(scenario, losses, rng, seeds=20, images=2000)[0]).mean(axis=1) for _ in range(draws)]
    values: Floats = np.mean(found, axis=0)
    return values
