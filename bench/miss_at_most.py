"""What `--miss-at-most` keeps: on splits of a study's own test images, with related images, and after a choice.

python bench/miss_at_most.py                                   # the simulations
python bench/miss_at_most.py sqlite:///sweeper.db STUDY        # splits of its test images, none trained
"""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from sweeper.core import metrics
from sweeper.core.operating_points import THRESHOLDS
from sweeper.core.records import HeldOut, MissControl, MissLimit, Recommended
from sweeper.evidence.miss_control import (
    ERROR,
    compute_hoeffding_bentkus,
    compute_unit_means,
    find_controlled_point,
    find_last_kept,
    number_image_units,
)
from sweeper.storage import load_sweep, open_storage
from sweeper.workflow import miss_limit
from sweeper.workflow.conclude import draw_conclusion

SHARES = (0.05, 0.1, 0.2)
REPEATS = 1000
LOGITS = np.log(np.asarray(THRESHOLDS) / (1 - np.asarray(THRESHOLDS)))
PRIOR = 0.02
"""Share of foreground pixels in the simulated images."""

Floats = npt.NDArray[np.float64]


def splits(storage: str, study: str) -> None:
    """Half of the test images (whole groups) calibrate, the others are new: 1,000 times."""
    sweep = load_sweep(open_storage(storage, create=False), study)
    chosen = draw_conclusion(sweep).recommended
    assert chosen is not None
    held_out = kept_answers(sweep, chosen)
    classes, counts = sweep.conditions.dataset.classes, held_out.counts
    units = number_image_units(held_out.groups)
    own = metrics.count_at_all_points(counts)[:, :, 1]
    pixels = own[:, 0, 0] + own[:, 0, 2]
    having = np.flatnonzero(pixels)
    missed = own[:, :, 2] / np.maximum(pixels, 1)[:, None]
    print(f"{study}: {len(having)} test images with {classes[1]} in {len(np.unique(units[having]))} units")
    rng = np.random.default_rng(0)
    for share in SHARES:
        risks, sure, refused = [], [], 0
        for _ in range(REPEATS):
            order = rng.permutation(int(units.max()) + 1)
            first = np.isin(units, order[: len(order) // 2])
            inside, rest = np.flatnonzero(first), np.flatnonzero(~first & (pixels > 0))
            part = counts.model_copy(update={"images": tuple(inside.tolist()), "data": counts.data[inside]})
            groups = tuple(held_out.groups[i] for i in inside)
            try:
                found = find_controlled_point(
                    HeldOut(counts=part, groups=groups), MissLimit(share=share), classes, THRESHOLDS[-1]
                )
            except Exception as error:  # too few images, or no threshold keeps it: counted, and said
                refused += 1
                why = str(error)
                continue
            new = compute_unit_means(missed[rest], np.unique(units[rest], return_inverse=True)[1]).mean(axis=0)
            risks.append(new[THRESHOLDS.index(found.point)])
            if found.sure_point is not None:
                sure.append(new[THRESHOLDS.index(found.sure_point)] <= share)
        if not risks:
            print(f"  {share:.0%}: refused in all {refused}: {why}")
            continue
        error = np.std(risks) / np.sqrt(len(risks))
        said = f"; within it at the surer threshold {np.mean(sure):.1%} of {len(sure)}" if sure else ""
        print(f"  {share:.0%}: missed {np.mean(risks):.2%} ± {error:.2%} of new images{said}; refused {refused}")


def kept_answers(sweep: object, chosen: Recommended) -> HeldOut:
    """Return the test counts that `--miss-at-most` takes, caught on their way."""
    caught: list[HeldOut] = []

    def catch(held_out: HeldOut, *_: object) -> MissControl:
        caught.append(held_out)
        return find_controlled_point(*(held_out, *_))  # type: ignore[arg-type]

    original, miss_limit.find_controlled_point = miss_limit.find_controlled_point, catch  # type: ignore[assignment]
    try:
        miss_limit.read_confirmation_held_out(sweep, chosen, MissLimit(share=0.5))  # type: ignore[arg-type]
    finally:
        miss_limit.find_controlled_point = original
    return caught[0]


def curves(rng: np.random.Generator, level: Floats) -> tuple[Floats, Floats]:
    """Shares of foreground missed and of background taken for it, (…, T), of images whose foreground has these logits.

    An image's logits are normal; the background's are at −4 with the image's own shift.
    """
    shift = rng.normal(0, 0.7, level.shape)
    return norm.cdf((LOGITS - level[..., None]) / 1.5), norm.sf((LOGITS + 4 - shift[..., None]) / 1.5)


def related() -> None:
    """Calibrate groups of 5 similar images with groups, and as if each image were its own."""
    rng = np.random.default_rng(1)
    print("related images, groups of 5, limit 10 %: share missed in new groups, mean over 1,000 calibrations")
    for groups in (12, 40):
        by: dict[str, list[tuple[float, bool]]] = {"groups count": [], "images count": []}
        for _ in range(REPEATS):
            level = rng.normal(2.0, 1.2, (groups + 200, 1)) + rng.normal(0, 0.3, (groups + 200, 5))
            missed, _ = curves(rng, level)
            means, new = missed[:groups].mean(axis=1), missed[groups:].mean(axis=(0, 1))
            flat = missed[:groups].reshape(-1, len(LOGITS))
            for name, losses in (("groups count", means), ("images count", flat)):
                n = len(losses)
                at = int(find_last_kept(losses.sum(axis=0), n, 0.1))
                sure = int((compute_hoeffding_bentkus(losses.mean(axis=0), n, 0.1) <= ERROR).sum()) - 1
                by[name].append((float(new[at]), sure >= 0 and bool(new[sure] > 0.1)))
        for name, found in by.items():
            risks, over = np.array(found).T
            error = np.std(risks) / np.sqrt(REPEATS)
            print(
                f"  {groups} groups, {name}: {np.mean(risks):.2%} ± {error:.2%}; surer one over it: {np.mean(over):.1%}"
            )


def chosen() -> None:
    """Choose the best of K equal networks on the same images that calibrate its threshold."""
    rng = np.random.default_rng(2)
    print("limit 10 %: share missed in new images after the choice of one of K equal networks, 1,000 sweeps each")
    usual = int(np.abs(LOGITS).argmin())
    for images in (24, 60):
        for networks in (1, 4, 8):
            found: dict[str, list[float]] = {"by IoU": [], "by what it misses": []}
            for _ in range(REPEATS):
                shared = rng.normal(2.0, 1.0, images + 300)
                level = shared + rng.normal(0, 0.5, (networks, images + 300))
                missed, false = curves(rng, level)
                old = slice(0, images)
                hit = PRIOR * (1 - missed[:, old, usual])
                iou = (hit / (PRIOR + (1 - PRIOR) * false[:, old, usual])).mean(axis=1)
                summed = missed[:, old].sum(axis=1)
                for name, values in (("by IoU", iou), ("by what it misses", -summed[:, usual])):
                    best = int(values.argmax())
                    at = find_last_kept(summed[best], images, 0.1)
                    found[name].append(float(missed[best, images:, at].mean()))
            for name, risks in found.items():
                error = np.std(risks) / np.sqrt(REPEATS)
                print(f"  {images} images, {networks} networks, {name}: {np.mean(risks):.2%} ± {error:.2%}")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        splits(*sys.argv[1:])
    else:
        related()
        chosen()
