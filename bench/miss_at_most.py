"""Measure whether `--miss-at-most` keeps its limit: on a study's images, with related images, and after a choice.

    python bench/miss_at_most.py                                   # simulations
    python bench/miss_at_most.py sqlite:///sweeper.db STUDY        # test images of a study

- With a study: 1,000 times, half of its test images (whole groups) find the threshold, and the others are new images.
  Nothing is trained. Prints the share of the foreground that is missed in the new images, mean and standard error, for
  three limits; how often the limit is kept at the surer threshold; and how often no threshold is found.
- Simulations, at a limit of 10 %, 1,000 times each: groups of 5 similar images, if the groups or if the images count as
  units; and the best of several equal networks, chosen on the images that also find the threshold. Prints the share
  that is missed in new images, mean and standard error. Takes five minutes of one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from sweeper.core import metrics
from sweeper.core.errors import UsageError
from sweeper.core.operating_points import THRESHOLDS
from sweeper.core.records import HeldOut, MissLimit
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


def print_study(storage: str, study: str) -> None:
    """Print what is missed in one half of a study's test images if the other half finds the threshold."""
    sweep = load_sweep(open_storage(storage, create=False), study)
    recommended = draw_conclusion(sweep).recommended
    if recommended is None:
        raise SystemExit(f"{study} recommends no loss, and only a recommended loss has a threshold; name another study")
    with patch.object(miss_limit, "find_controlled_point") as find:  # gets what `--miss-at-most` would use
        miss_limit.read_confirmation_held_out(sweep, recommended, MissLimit(share=0.5))
    held_out: HeldOut = find.call_args.args[0]
    classes, counts = sweep.conditions.dataset.classes, held_out.counts
    units = number_image_units(held_out.groups)
    foreground = metrics.count_at_all_points(counts)[:, :, 1]
    pixels = foreground[:, 0, 0] + foreground[:, 0, 2]
    with_foreground = np.flatnonzero(pixels)
    missed = foreground[:, :, 2] / np.maximum(pixels, 1)[:, None]
    number = len(np.unique(units[with_foreground]))
    print(f"{study}: {len(with_foreground)} test images with {classes[1]} in {number} units")
    rng = np.random.default_rng(0)
    for share in SHARES:
        risks, is_kept, refusals = [], [], []
        for _ in range(REPEATS):
            order = rng.permutation(int(units.max()) + 1)
            is_first = np.isin(units, order[: len(order) // 2])
            first, second = np.flatnonzero(is_first), np.flatnonzero(~is_first & (pixels > 0))
            part = counts.model_copy(update={"images": tuple(first.tolist()), "data": counts.data[first]})
            groups = tuple(held_out.groups[i] for i in first)
            try:
                control = find_controlled_point(
                    HeldOut(counts=part, groups=groups), MissLimit(share=share), classes, THRESHOLDS[-1]
                )
            except UsageError as error:  # too few images, or no threshold keeps the limit
                refusals.append(str(error))
                continue
            new = compute_unit_means(missed[second], np.unique(units[second], return_inverse=True)[1]).mean(axis=0)
            risks.append(new[THRESHOLDS.index(control.point)])
            if control.sure_point is not None:
                is_kept.append(new[THRESHOLDS.index(control.sure_point)] <= share)
        if not risks:
            print(f"  {share:.0%}: no threshold in any of {len(refusals)} divisions: {refusals[-1]}")
            continue
        surer = f"; limit kept at the surer threshold in {np.mean(is_kept):.1%} of {len(is_kept)}" if is_kept else ""
        print(f"  {share:.0%}: missed {format_mean(risks)} of new images{surer}; no threshold in {len(refusals)}")


def format_mean(risks: Sequence[float]) -> str:
    """Return the mean with its standard error, in per cent."""
    return f"{np.mean(risks):.2%} ± {np.std(risks) / np.sqrt(len(risks)):.2%}"


def draw_shares(rng: np.random.Generator, level: Floats) -> tuple[Floats, Floats]:
    """Return the shares of foreground missed and of background taken for it by images at T thresholds, (…, T).

    The logits of an image's foreground are normal with mean `level`; those of its background have a mean near −4.
    """
    shift = rng.normal(0, 0.7, level.shape)
    return norm.cdf((LOGITS - level[..., None]) / 1.5), norm.sf((LOGITS + 4 - shift[..., None]) / 1.5)


def print_related() -> None:
    """Print what is missed in new groups if thresholds are found from groups, and from their images as units."""
    rng = np.random.default_rng(1)
    print("related images, groups of 5, limit 10 %: share missed in new groups, mean over 1,000 draws")
    for groups in (12, 40):
        results: dict[str, list[tuple[float, bool]]] = {"groups count": [], "images count": []}
        for _ in range(REPEATS):
            level = rng.normal(2.0, 1.2, (groups + 200, 1)) + rng.normal(0, 0.3, (groups + 200, 5))
            missed, _ = draw_shares(rng, level)
            means, new = missed[:groups].mean(axis=1), missed[groups:].mean(axis=(0, 1))
            flat = missed[:groups].reshape(-1, len(LOGITS))
            for name, losses in (("groups count", means), ("images count", flat)):
                n = len(losses)
                last = int(find_last_kept(losses.sum(axis=0), n, 0.1))
                sure = int((compute_hoeffding_bentkus(losses.mean(axis=0), n, 0.1) <= ERROR).sum()) - 1
                results[name].append((float(new[last]), sure >= 0 and bool(new[sure] > 0.1)))
        for name, pairs in results.items():
            risks, is_above = np.array(pairs).T
            above = f"above the limit at the surer threshold: {np.mean(is_above):.1%}"
            print(f"  {groups} groups, {name}: {format_mean(risks)}; {above}")


def print_choice() -> None:
    """Print what the best of several equal networks misses if the same images choose it and find its threshold."""
    rng = np.random.default_rng(2)
    print("limit 10 %: share missed in new images by the chosen one of several equal networks, mean over 1,000 draws")
    plain_place = int(np.abs(LOGITS).argmin())
    for images in (24, 60):
        for networks in (1, 4, 8):
            results: dict[str, list[float]] = {"by IoU": [], "by what it misses": []}
            for _ in range(REPEATS):
                shared = rng.normal(2.0, 1.0, images + 300)
                level = shared + rng.normal(0, 0.5, (networks, images + 300))
                missed, false = draw_shares(rng, level)
                old = slice(0, images)
                hit = PRIOR * (1 - missed[:, old, plain_place])
                iou = (hit / (PRIOR + (1 - PRIOR) * false[:, old, plain_place])).mean(axis=1)
                summed = missed[:, old].sum(axis=1)
                for name, values in (("by IoU", iou), ("by what it misses", -summed[:, plain_place])):
                    best = int(values.argmax())
                    last = find_last_kept(summed[best], images, 0.1)
                    results[name].append(float(missed[best, images:, last].mean()))
            for name, risks in results.items():
                print(f"  {images} images, {networks} networks, {name}: {format_mean(risks)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="*", metavar="STORAGE STUDY", help="database and name of a study")
    arguments = parser.parse_args()
    if len(arguments.study) == 2:
        print_study(*arguments.study)
    elif arguments.study:
        parser.error(f"a storage and a study are needed, or neither; found {' '.join(arguments.study)}")
    else:
        print_related()
        print_choice()


if __name__ == "__main__":
    main()
