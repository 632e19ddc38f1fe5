"""`--miss-at-most`: the threshold equals that of an independent search, and keeps the limit on simulated images."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import beta, binom

from sweeper.core import metrics
from sweeper.core.errors import UsageError
from sweeper.core.operating_points import BINS, TAUS, THRESHOLDS
from sweeper.core.records import HeldOut, ImageCounts, MissControl, MissLimit
from sweeper.evidence.miss_control import compute_hoeffding_bentkus, find_controlled_point, format_miss_control

CLASSES = ("ground", "crack")


def draw_held_out(rng: np.random.Generator, images: int, *, groups: int = 0, without: int = 0) -> HeldOut:
    """Histograms of images whose cracks are detected with varying success; images of a group are similar."""
    level = rng.normal(1.5, 1.0, groups or images)
    edges = np.linspace(-12, 12, BINS + 1)[1:-1]
    data = np.zeros((images, 2, BINS), dtype=np.uint32)
    for i in range(images):
        centre = level[i % groups] + rng.normal(0, 0.3) if groups else level[i]
        for label, mean, pixels in ((0, -3.0, 400), (1, centre, 0 if i < without else int(rng.integers(5, 80)))):
            np.add.at(data[i, label], np.searchsorted(edges, rng.normal(mean, 1.2, pixels), side="right"), 1)
    counts = ImageCounts(kind="histogram", images=tuple(range(images)), points=THRESHOLDS, data=data)
    return HeldOut(counts=counts, groups=tuple(f"g{i % groups}" if groups else None for i in range(images)))


def compute_missed(held_out: HeldOut, point: float) -> npt.NDArray[np.float64]:
    """Share of the cracks' pixels below the threshold in each image that has one."""
    counts = metrics.count_at_point(held_out.counts, point)[:, 1]
    pixels = counts[:, 0] + counts[:, 2]
    return counts[pixels > 0, 2] / pixels[pixels > 0]


def control_misses(held_out: HeldOut, share: float, before: float = 0.98) -> MissControl:
    return find_controlled_point(held_out, MissLimit(share=share), CLASSES, before)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3])
def test_the_threshold_is_that_of_a_search_with_the_finite_sample_correction(share: float) -> None:
    """The rule as MAPIE and the paper's own code have it: the n-sample risk is to be at most ((n + 1) α − 1) / n."""
    held_out = draw_held_out(np.random.default_rng(0), 40, without=6)
    control = control_misses(held_out, share)
    n = 34
    good = [t for t in THRESHOLDS if compute_missed(held_out, t).mean() <= ((n + 1) * share - 1) / n]
    assert (control.images, control.groups) == (n, None) and control.point == max(good)
    left_out, hits = [], np.zeros(3, dtype=np.int64)
    for i in range(6, 40):
        rest = [j for j in range(40) if j != i]
        counts = held_out.counts
        others = counts.model_copy(update={"images": tuple(range(39)), "data": counts.data[rest]})
        point = control_misses(HeldOut(counts=others, groups=(None,) * 39), share).point
        left_out.append(compute_missed(held_out, point)[i - 6])
        hits += metrics.count_at_point(counts, point)[i, 1]
    hits += metrics.count_at_point(held_out.counts, control.point)[:6, 1].sum(axis=0)  # those without a crack
    assert control.missed == pytest.approx(np.mean(left_out))
    assert control.precision == pytest.approx(hits[0] / (hits[0] + hits[1]))
    assert control.precision < control.precision_before


@pytest.mark.slow
def test_new_images_keep_the_limit_on_average() -> None:
    rng = np.random.default_rng(1)
    curves = [compute_missed_curve(draw_held_out(rng, 1)) for _ in range(1500)]
    risks, sure_risks = [], []
    for _ in range(300):
        control = control_misses(draw_held_out(rng, 30), 0.1)
        risks.append(np.mean([curve[THRESHOLDS.index(control.point)] for curve in curves]))
        assert control.sure_point <= control.point
        sure_risks.append(np.mean([curve[THRESHOLDS.index(control.sure_point)] for curve in curves]))
    error = np.std(risks) / math.sqrt(len(risks))
    assert 0.1 - 1 / 31 - 3 * error < np.mean(risks) < 0.1 + 3 * error
    assert binom.sf(int(np.sum(np.array(sure_risks) > 0.1)), len(sure_risks), 0.05) > 0.001  # 95 % of calibrations


def compute_missed_curve(image: HeldOut) -> npt.NDArray[np.float64]:
    foreground = image.counts.data[0, 1].astype(float)
    return np.asarray(foreground.cumsum()[:-1] / foreground.sum())


def test_related_images_count_as_one() -> None:
    held_out = draw_held_out(np.random.default_rng(2), 60, groups=12)
    control = control_misses(held_out, 0.1)
    assert (control.images, control.groups) == (60, 12)
    means = {t: compute_missed(held_out, t).reshape(5, 12).mean(axis=0).sum() for t in THRESHOLDS}
    assert control.point == max(t for t, total in means.items() if (total + 1) / 13 <= 0.1)
    with pytest.raises(UsageError, match=r"needs 19 test images .*, found 12: .* 1 / 13 = 7\.7 %"):
        control_misses(held_out, 0.05)


def test_a_limit_that_cannot_be_kept_is_rejected_with_its_reason() -> None:
    held_out = draw_held_out(np.random.default_rng(3), 24)
    assert control_misses(held_out, 0.04).point < control_misses(held_out, 0.0401 + 0.05).point
    data = held_out.counts.data.copy()
    data[:, 1, 0] += 20  # pixels below every threshold
    undetectable = HeldOut(counts=held_out.counts.model_copy(update={"data": data}), groups=held_out.groups)
    for images, limit, classes, words in (
        (held_out, MissLimit(share=0.03), CLASSES, r"needs 33 test images .* with crack, found 24: .* = 4\.0 %"),
        (draw_held_out(np.random.default_rng(3), 3, without=3), MissLimit(share=0.2), CLASSES, "found 0"),
        (undetectable, MissLimit(share=0.1), CLASSES, r"cannot be kept by this network: even at .* misses \d+\.\d %"),
        (held_out, MissLimit(share=0.1, class_name="crak"), CLASSES, "got 'crak', did you mean `crack`"),
        (held_out, MissLimit(share=0.1), ("a", "b", "c"), "got no name"),
    ):
        with pytest.raises(UsageError, match=words):
            find_controlled_point(images, limit, classes, 0.5)


@pytest.mark.parametrize(("name", "usual"), [("crack", 0.98), ("ground", 0.01)])
def test_between_two_thresholds_the_more_cautious_one_is_used(name: str, usual: float) -> None:
    """Where no pixel was counted, as at the median of two trainings, nothing is known of what is missed."""
    held_out, limit = draw_held_out(np.random.default_rng(4), 40), MissLimit(share=0.05, class_name=name)
    last = find_controlled_point(held_out, limit, CLASSES, usual).point
    bolder = THRESHOLDS[THRESHOLDS.index(last) + (1 if name == "crack" else -1)]
    for share in (0.05, 0.9):  # the next bolder threshold breaks the former limit, and keeps the latter
        limit = MissLimit(share=share, class_name=name)
        for fraction in (0.2, 0.8):
            control = find_controlled_point(held_out, limit, CLASSES, last + fraction * (bolder - last))
            assert (control.point, control.before) == (last, last)
    unchanged = find_controlled_point(held_out, limit, CLASSES, bolder)
    assert unchanged.point == bolder and unchanged.missed == unchanged.missed_before


def test_tau_is_raised_until_the_limit_of_a_class_holds() -> None:
    """Of a class that is missed less at a high τ; a τ at which fewer are missed again counts as the worse before it."""
    shares = np.array([0.4, 0.3, 0.28, 0.2, 0.22, 0.1, 0.06, 0.02, 0.01])  # by rising τ
    labels = np.full(30, 1000)
    fn = np.round(shares * 1000).astype(np.uint32)[None] * np.ones((30, 1), np.uint32)
    rare = np.stack([labels[:, None] - fn, np.zeros_like(fn), fn], axis=-1)
    common = np.stack([np.full_like(fn, 9000), fn, np.zeros_like(fn)], axis=-1)
    data = np.stack([common, rare, rare], axis=2)
    counts = ImageCounts(kind="points", images=tuple(range(30)), points=TAUS, data=data)
    held_out = HeldOut(counts=counts, groups=(None,) * 30)
    limit = MissLimit(share=0.24, class_name="b")
    # The risk with its correction is (30 x + 1) / 31: 0.24 allows x up to 0.2147. Of 0.2 (τ = −0.25) and 0.22 (τ = 0)
    # the former is beyond a worse one and counts as 0.22.
    assert find_controlled_point(held_out, limit, ("a", "b", "c"), -1.0).point == 0.25
    assert find_controlled_point(held_out, MissLimit(share=0.25, class_name="b"), ("a", "b", "c"), -1.0).point == -0.25
    assert find_controlled_point(held_out, MissLimit(share=0.9, class_name="a"), ("a", "b", "c"), 0.0).point == 0.0
    # Between two τ the more cautious one: higher for a rare class, lower for the most common.
    assert find_controlled_point(held_out, limit, ("a", "b", "c"), 0.2).point == 0.25
    assert find_controlled_point(held_out, MissLimit(share=0.9, class_name="b"), ("a", "b", "c"), 0.125).point == 0.25
    assert find_controlled_point(held_out, MissLimit(share=0.9, class_name="a"), ("a", "b", "c"), 0.2).point == 0.0


def test_the_p_value_is_between_the_exact_one_and_e_times_it() -> None:
    n, share = 50, 0.1
    for hits in range(5):
        p = float(compute_hoeffding_bentkus(np.array([hits / n]), n, share)[0])
        exact = binom.cdf(hits, n, share)
        # Valid: no smaller than the exact test of losses 0 and 1.
        assert exact * (1 - 1e-9) <= p <= math.e * exact + 1e-12
    assert compute_hoeffding_bentkus(np.array([0.1, 0.2]), n, share).tolist() == [1.0, 1.0]
    # No image missed: 28 cannot show 10 % with 95 %, 29 can (0.9²⁹ = 0.047), as an exact binomial bound says too.
    assert [float(compute_hoeffding_bentkus(np.zeros(1), k, share)[0]) <= 0.05 for k in (28, 29)] == [False, True]
    assert beta.ppf(0.95, 1, 29) <= share < beta.ppf(0.95, 1, 28)


@pytest.mark.parametrize(
    ("text", "share", "name"), [("10%", 0.1, None), ("0.1", 0.1, None), ("a=b=2.5%", 0.025, "a=b")]
)
def test_the_limit_is_parsed_from_text(text: str, share: float, name: str | None) -> None:
    limit = MissLimit.parse(text)
    assert (limit.share, limit.class_name) == (pytest.approx(share), name)


@pytest.mark.parametrize("text", ["", "crack=", "0", "100%", "1", "nan", "-1%", "10 percent"])
def test_a_limit_that_is_not_a_share_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be .*like crack=10%"):
        MissLimit.parse(text)


def test_the_sentences_mention_groups_if_images_come_in_groups() -> None:
    text = " ".join(
        format_miss_control(
            control_misses(draw_held_out(np.random.default_rng(2), 60, groups=12), 0.9, 0.5), "threshold"
        )
    )
    assert "like the 12 groups of test images" in text and "The threshold is the same without the limit." in text
