"""Simulate confirmations whose truth is known: test counts of losses with the noise of real trainings.

The foreground IoU of loss l on image i in the training with seed s is, before it is clipped to [0, 1],

    level + shared_s + seed_ls + image_i + preference_li + group_lg + interaction_lsi

in which the standard deviations are twice those in mIoU that are quoted here.

- `shared`: effect of a seed on all losses alike (its split into training and validation images, weights and crops).
- `seed`: effect of a training on all images alike.
- `image`: effect of an image on all losses alike.
- `preference`: effect of an image on all trainings of a loss.
- `group`: the same of all images of a group (a video, a patient), if there are groups.
- `interaction`: effect of a training on a single image.

False positives and false negatives are equally frequent. Images differ in how much foreground they have, which is their
weight in the data set's IoU. A scenario may also have a rare class: it has the same level and seed noise and its own
noise of images; on images without it some pixels are false alarms. Where it is learned by luck, each training finds all
or none of it; two losses that have the same luck are equal.

The numbers come from the two-way table of `sweeper.evidence.intervals`, applied to the confirmations of the first
sweeps with this tool (3 seeds, 200 steps; standard deviations in mIoU, of a single run):

| study | test images | image | preference | interaction | seed (main effect) | kurtosis of paired differences |
| --- | --: | --: | --: | --: | --: | --: |
| synthetic cracks (reports/example) | 32 | 0.089 | 0–0.007 | 0.019 | 0–0.004 | 3–8 |
| cracks_cfd | 24 | 0.065 | 0–0.012 | 0.014 | 0–0.002 | 3–4 |
| camvid | 45 | 0.027 | 0–0.023 | 0.018 | 0.007–0.028 | 2–5 |

In both sets with two classes nearly all the difference between seeds is `interaction`; in the one with several classes
it is the main effect. `shared` comes from the confirmations of later sweeps, where pairing removed 53 to 99 % of the
variance over seeds: here it removes 58 (street) to 96 % (binary).
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
"""Share of foreground in the pixels."""
FOREGROUND = 1000
"""Foreground pixels of a typical image; with fewer, rounding to whole pixels would add noise."""
FALSE_ALARMS = 5.0
"""Mean number of pixels that are wrongly predicted as the rare class on an image without it."""
COLLAPSED = 0.02
"""Foreground IoU of a training that collapsed to a constant answer."""


@dataclass(frozen=True)
class Scenario:
    """Noise of one kind of sweep; standard deviations in mIoU."""

    name: str
    description: str
    images: int
    level: float = 0.5
    """Foreground IoU of every loss, if all are equal."""
    image: float = 0.08
    preference: float = 0.009
    interaction: float = 0.019
    seed: float = 0.003
    shared: float = 0.02
    """Effect of a seed on all losses alike."""
    last_seed: float | None = None
    """Seed noise of the last loss; None = that of the others."""
    first_seed: float | None = None
    """Seed noise of the present loss, the first; None = that of the others."""
    sizes: float = 0.4
    """Standard deviation of the log of an image's foreground."""
    tails: float | None = None
    """Degrees of freedom of Student's t for image, preference and interaction; None = normal."""
    collapse: float = 0.0
    """Share of trainings that collapse."""
    last_collapse: float | None = None
    """The same for the last loss; None = that of the others."""
    groups: int = 0
    """Number of groups of related images, all of one size; 0 = images are independent."""
    group: float = 0.0
    """Effect of a group on all trainings of a loss."""
    rare: float = 0.0
    """Share of the images that contain a rare class; 0 = there is no such class."""
    rare_classes: int = 1
    luck: float = 1.0
    """Share of the trainings that learn a rare class."""

    @property
    def classes(self) -> tuple[str, ...]:
        rare = [f"rare {k}" for k in range(self.rare_classes)] if self.rare else []
        return ("background", "object", *rare)

    def list_groups(self, images: int) -> list[str] | None:
        """Return the group of each image, or None if there are no groups."""
        return [f"group {i * self.groups // images}" for i in range(images)] if self.groups else None


def list_by_loss(usual: float, last: float | None, losses: int) -> Floats:
    """Return a value for each loss, (losses,); the last one may differ."""
    values = np.full(losses, usual)
    values[-1] = usual if last is None else last
    return values


BINARY = Scenario("binary", "as measured on cracks: interaction, hardly any seed noise", 32)
STREET = Scenario(
    "street",
    "as measured on camvid: seed noise above all",
    45,
    image=0.03,
    preference=0.014,
    interaction=0.018,
    seed=0.017,
)
UNEQUAL = Scenario("6:1", "the last loss has six times the others' seed noise", 32, seed=0.005, last_seed=0.03)
BOUNDED = Scenario("bounded", "scores near 1", 32, level=0.93, image=0.04, seed=0.006, shared=0.01)
COLLAPSING = Scenario("collapse", "every loss collapses in 15 % of seeds", 32, collapse=0.15)
ONE_COLLAPSES = Scenario("one collapses", "the last loss collapses in 15 % of seeds", 32, last_collapse=0.15)
TAILS = Scenario("tails", "heavy-tailed images of unequal size", 40, seed=0.005, tails=4.0, sizes=0.7, preference=0.012)
FEW_IMAGES = tuple(
    Scenario(f"{n} images", "few test images, which favour different losses", n, preference=0.014) for n in (10, 20, 40)
)
RARE = Scenario("rare class", "one of three classes occurs in an eighth of the images", 32, rare=0.125)
FEW_GROUPS = tuple(
    Scenario(f"{n} groups", "images of few videos or patients, each of which favours a loss", 30, groups=n, group=0.02)
    for n in (3, 4, 5)
)
TWO_GROUPS = replace(FEW_GROUPS[0], name="2 groups", groups=2)
LOTTERY = Scenario("lottery", "every training learns the rare class with probability ½", 32, rare=0.5, luck=0.5)
TWO_RARE = replace(LOTTERY, name="two rare", rare_classes=2, description="two rare classes, each with probability ½")
NOISY_PRESENT = Scenario(
    "noisy present", "the present loss has six times the seed noise", 32, seed=0.005, first_seed=0.03
)
MANY_IMAGES = Scenario("100 images", "many test images, with some seed noise", 100, seed=0.005)
SCENARIOS = (
    *(BINARY, STREET, UNEQUAL, BOUNDED, COLLAPSING, ONE_COLLAPSES, TAILS, *FEW_IMAGES, RARE, *FEW_GROUPS),
    *(TWO_GROUPS, LOTTERY, TWO_RARE, NOISY_PRESENT, MANY_IMAGES),
)
"""Add new ones at the end: the place of a scenario determines its random numbers."""


def draw_counts(
    scenario: Scenario,
    losses: int,
    rng: np.random.Generator,
    *,
    gap: float = 0.0,
    gaps: Floats | None = None,
    seeds: int = SEEDS,
    images: int | None = None,
) -> tuple[Counts, npt.NDArray[np.bool_]]:
    """Simulate a confirmation; return counts (losses, seeds, images, classes, 3) and collapses (losses, seeds).

    Args:
        scenario: its noise.
        losses: number of losses.
        rng: source of all draws.
        gap: by how much the first loss is better than the others, in mIoU.
        gaps: of each loss, by how much it is better than the scenario's level, in mIoU, (losses,).
        seeds: number of seeds.
        images: number of test images; None = the scenario's.
    """
    n = scenario.images if images is None else images
    sd_seed = 2 * list_by_loss(scenario.seed, scenario.last_seed, losses)
    sd_seed[0] = sd_seed[0] if scenario.first_seed is None else 2 * scenario.first_seed
    rate = list_by_loss(scenario.collapse, scenario.last_collapse, losses)
    level = np.full((losses, seeds, 1), scenario.level)
    level[0] += 2 * gap
    if gaps is not None:
        level += 2 * gaps[:, None, None]
    level += 2 * scenario.shared * rng.standard_normal((1, seeds, 1))
    level += sd_seed[:, None, None] * rng.standard_normal((losses, seeds, 1))
    iou = level + _draw_image_effects(scenario, rng, losses, seeds, n)
    collapsed = rng.random((losses, seeds)) < rate[:, None]
    size = np.maximum(20, FOREGROUND * np.exp(scenario.sizes * rng.standard_normal(n)))
    if scenario.groups:
        effects = rng.standard_normal((losses, 1, scenario.groups))
        iou += 2 * scenario.group * effects[..., np.arange(n) * scenario.groups // n]
    objects = [_count_errors(iou, collapsed, size)]
    for _ in range(scenario.rare_classes if scenario.rare else 0):
        has_rare = rng.random(n) < scenario.rare
        has_rare[rng.permutation(n)[: max(0, 2 - has_rare.sum())]] = True
        iou = level + _draw_image_effects(scenario, rng, losses, seeds, n)
        counts_of_rare = _count_errors(iou, collapsed, size / 4)
        counts_of_rare[..., ~has_rare, :] = 0
        counts_of_rare[..., ~has_rare, 1] = rng.poisson(FALSE_ALARMS, (losses, seeds, n))[..., ~has_rare]
        if scenario.luck < 1:
            unlucky = rng.random((losses, seeds)) >= scenario.luck
            counts_of_rare[unlucky, :, 2] += counts_of_rare[unlucky, :, 0]
            counts_of_rare[unlucky, :, :2] = 0
        objects.append(counts_of_rare)
    errors = np.stack(objects, axis=-2)
    # The background has the rest of the image, and at least half of it. Its misses are the others' false positives.
    area = int(FOREGROUND / SHARE)
    missed, extra = errors[..., 2].sum(axis=-1), errors[..., 1].sum(axis=-1)
    labelled = errors[..., [0, 2]].sum(axis=(-2, -1))
    background = np.stack([np.maximum(area - labelled - extra, area // 2), missed, extra], axis=-1)
    counts: Counts = np.concatenate([background[..., None, :], errors], axis=-2)
    return counts, collapsed


def _draw_image_effects(scenario: Scenario, rng: np.random.Generator, losses: int, seeds: int, n: int) -> Floats:
    """Return the images' effects on a class's IoU, (losses, seeds, images)."""
    iou = np.zeros((losses, seeds, n))
    iou += 2 * scenario.image * _draw_noise(scenario, rng, (n,))
    iou += 2 * scenario.preference * _draw_noise(scenario, rng, (losses, 1, n))
    iou += 2 * scenario.interaction * _draw_noise(scenario, rng, (losses, seeds, n))
    return iou


def _count_errors(iou: Floats, collapsed: npt.NDArray[np.bool_], size: Floats) -> Counts:
    """Return a class's true positives, false positives and false negatives, (losses, seeds, images, 3)."""
    iou[collapsed] = COLLAPSED
    np.clip(iou, 0.0, 1.0, out=iou)
    wrong = np.rint(size * (1 - iou) / (1 + iou)).astype(np.int64)  # FP = FN: IoU = (size − wrong) / (size + wrong)
    return np.stack([np.rint(size).astype(np.int64) - wrong, wrong, wrong], axis=-1)


def _draw_noise(scenario: Scenario, rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Draw noise of mean 0 and variance 1, with heavy tails if the scenario has them."""
    if scenario.tails is None:
        return rng.standard_normal(shape)
    noise: Floats = rng.standard_t(scenario.tails, shape) / np.sqrt(scenario.tails / (scenario.tails - 2))
    return noise


def make_results(counts: Counts, collapsed: npt.NDArray[np.bool_]) -> list[list[TrialResult]]:
    """Return the counts as results of confirmation trainings, by loss and seed."""
    losses, seeds, n = counts.shape[:3]
    images = tuple(range(n))

    def make_result(f: int, s: int) -> TrialResult:
        # To validate the records would take longer than to judge them.
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

    return [[make_result(f, s) for s in range(seeds)] for f in range(losses)]


def make_search_trials(losses: int) -> dict[str, TrialResult]:
    """Return the search trials of the finalists, by family."""
    spec = TrialSpec(purpose="search", number=0, family=FAMILIES[0], params={}, lr=1e-3, seed=0, steps=100)
    trial = TrialResult(spec=spec, state="complete", value=0.7, seconds=1.0, device="simulated")
    return {
        family: trial.model_copy(update={"spec": spec.model_copy(update={"family": family, "number": k})})
        for k, family in enumerate(FAMILIES[:losses])
    }


def compute_miou(counts: Counts) -> Floats:
    """Return the mIoU of each training, (losses, seeds), from counts (losses, seeds, images, classes, 3)."""
    summed = counts.sum(axis=2).astype(np.float64)
    values: Floats = (summed[..., 0] / summed.sum(axis=-1)).mean(axis=-1)
    return values


@lru_cache
def _simulate_response(scenario: Scenario) -> tuple[Floats, Floats]:
    """Return a grid of gaps in level, and the true gaps in mIoU that they cause, both relative to the scenario's level.

    They differ where scores are clipped or have heavy tails.
    """
    grid = np.linspace(-0.16, 0.16, 33)
    plain = replace(scenario, last_seed=None, last_collapse=None, collapse=0.0)
    means = []
    for level in grid:
        rng = np.random.default_rng(11)  # the same numbers for all levels
        batches = (draw_counts(plain, 1, rng, gaps=np.array([level]), seeds=10, images=3000)[0] for _ in range(6))
        means.append(np.mean([compute_miou(counts).mean() for counts in batches]))
    response = np.array(means)
    return grid, response - response[len(grid) // 2]


def compute_true_gaps(scenario: Scenario, gaps: Floats) -> Floats:
    """Return the true mean mIoU of losses drawn with these `gaps`, less the scenario's level, without collapses."""
    true_gaps: Floats = np.interp(gaps, *_simulate_response(scenario))
    return true_gaps


@lru_cache
def simulate_population(scenario: Scenario, losses: int, draws: int = 150) -> Floats:
    """Simulate the true mean mIoU of each loss, (losses,), over the populations of seeds and images."""
    rng = np.random.default_rng(1)
    batches = (draw_counts(scenario, losses, rng, seeds=20, images=2000)[0] for _ in range(draws))
    means: Floats = np.mean([compute_miou(counts).mean(axis=1) for counts in batches], axis=0)
    return means
