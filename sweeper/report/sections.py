"""The tables and computed sentences of the report, one function each, all from `Facts`; markdown."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd

from sweeper.core.records import Collapse, Coordinate
from sweeper.core.text import count, listed
from sweeper.evidence.other_metrics import THIN
from sweeper.report.facts import (
    ENOUGH,
    Facts,
    best_trial,
    gain_over_constant,
    search_split,
    searched_range,
    trend,
)
from sweeper.report.formatting import (
    MISSING,
    code,
    escape_md,
    number,
    params_text,
    percent,
    prose,
    run_link,
    signed,
    significant,
    table,
)
from sweeper.report.tables import trainings

CONSTANT = frozenset({Collapse.ALL_BACKGROUND, Collapse.NO_BETTER_THAN_CONSTANT})
"""Collapses that mean: no better than a constant answer."""


def profile_table(facts: Facts) -> str:
    """The imbalance fingerprint, one row per class."""
    weights = facts.sweep.profile.class_weights
    rows = []
    for i, c in enumerate(facts.sweep.profile.classes):
        sizes = " / ".join(f"{v:,.0f}" for v in c.component_pixels) if c.component_pixels else MISSING
        weight = significant(weights[i] if i < len(weights) else None)
        cells = [escape_md(c.name), percent(c.pixel_share), percent(c.picture_share), f"{c.components:,}", sizes]
        rows.append([*cells, percent(c.thinness), weight])
    header = [
        "class",
        "of labelled pixels",
        "of images",
        "components",
        "their pixels (10 / 50 / 90 %)",
        "thin",
        "1/f weight",
    ]
    return table(header, rows)


def profile_text(facts: Facts) -> list[str]:
    """What follows from the imbalance, in sentences that hold only where their numbers say so."""
    p = facts.sweep.profile
    lines = []
    if facts.binary:
        name, background = (escape_md(p.classes[i].name) for i in (1, 0))
        severity = "severe" if p.imbalance >= 50 else "marked" if p.imbalance >= 5 else "mild"
        lines.append(
            f"{severity.capitalize()} imbalance: {significant(p.imbalance)} pixels of {background} for one of {name}. "
            f"Balancing them fully would take `pos_weight` {significant(p.pos_weight)}, or focal's `alpha` "
            f"{number(p.alpha)}; of {_seen(facts)} the imbalance is {significant(facts.sweep.imbalance)}."
        )
        thin = p.classes[1].thinness
        if thin is not None and thin > THIN:
            lines.append(
                f"{percent(thin)} of {name} lies within 2 pixels of its edge: the structures are thin, an error of one "
                "pixel costs much IoU, and no loss can mend imprecise labels there."
            )
    else:
        occurring = [c for c in p.classes if c.pixel_share > 0]
        if occurring:
            rare = min(occurring, key=lambda c: c.pixel_share)
            common = max(occurring, key=lambda c: c.pixel_share)
            lines.append(
                f"{escape_md(common.name)} has {significant(p.imbalance)} times as many pixels as "
                f"{escape_md(rare.name)}. mIoU counts both alike, so that a loss which gives up rare "
                "classes pays for each of them."
            )
            scarce = [c for c in occurring if c.picture_share < 0.1]
            if scarce:
                lines.append(
                    f"In fewer than a tenth of the images: {listed([escape_md(c.name) for c in scarce])}. "
                    "Their scores rest on few images; more of these would help more than any loss."
                )
    lines += _crops_text(facts)
    if p.empty_pictures:
        lines.append(
            f"{count(p.empty_pictures, 'image')} of {p.pictures:,} hold nothing but {escape_md(p.classes[0].name)}; "
            "on them an overlap loss has only false positives to learn from."
        )
    return lines


def _seen(facts: Facts) -> str:
    return "the training split" if facts.sweep.conditions.crop_pixels is None else "its balanced crops"


def _crops_text(facts: Facts) -> list[str]:
    """What balanced crops show of the rarest class, where they are balanced and the images can still be divided."""
    conditions, split = facts.sweep.conditions, search_split(facts)
    if conditions.crop_pixels is None or split is None:
        return []
    whole, seen = conditions.dataset.class_pixels(split.train), conditions.pixels_seen(split.train)
    whole, seen = whole / whole.sum(), seen / seen.sum()
    rarest = 1 if facts.binary else int(np.where(whole > 0, whole, 1).argmin())
    name = escape_md(conditions.dataset.classes[rarest])
    return [
        "Crops are balanced: a third of each batch is centred on a pixel of a class drawn evenly over those of its "
        f"image, but for the background. {name} takes {percent(float(seen[rarest]))} of the labelled pixels in the "
        f"crops and {percent(float(whole[rarest]))} in the training images. That is what sampling does, alike for all "
        "losses: weights and frequencies of classes refer to the crops, so that the code to paste is for such crops; "
        "operating points refer to whole images. What the loss does beyond that is the difference between the losses."
    ]


def leaderboard(facts: Facts, ui_url: str) -> str:
    """The best search trial of every family that was tried, best first, with the family's trials by outcome."""
    entries = []
    for family in facts.families:
        mine = facts.search[facts.search["family"] == family]
        if mine.empty:
            continue
        best, states = best_trial(facts, family), mine["state"].value_counts()
        last = best.evaluations[-1] if best is not None and best.evaluations else None
        cells = [code(family), MISSING, MISSING, MISSING, MISSING]
        if best is not None:
            settings = ", ".join(p for p in (params_text(best.spec.params), f"`lr` {significant(best.spec.lr)}") if p)
            cells = [
                code(family),
                settings,
                number(best.value),
                number(last.default.miou if last else None),
            ]
            cells += [number(last.point, 2) if last else MISSING]
        counts = [
            len(mine),
            *(states.get(s, 0) for s in ("complete", "pruned", "failed")),
            (mine["collapse"] != "none").sum(),
        ]
        link = (
            run_link(f"trial {best.spec.number}", ui_url, facts.sweep.experiment_id, best.run_id) if best else MISSING
        )
        if best is not None and link == MISSING:
            link = f"trial {best.spec.number}"
        entries.append((-(best.value or 0.0) if best else 1.0, [*cells, *(str(int(n)) for n in counts), link]))
    header = ["loss", "best trial", f"validation {facts.objective}", f"mIoU {facts.default_name}", facts.point_name]
    header += ["trials", "complete", "pruned", "failed", "collapsed", "run"]
    return table(header, [cells for _, cells in sorted(entries, key=lambda e: e[0])], left=2)


def untried(facts: Facts) -> str:
    """Names the families of the space without a single trial."""
    tried = set(facts.search["family"])
    names = [code(f) for f in facts.families if f not in tried]
    return f"Not tried: {listed(names)}." if names else ""


def coordinates_table(facts: Facts) -> str:
    """Per family and coordinate with enough trials: range, tried, best, rank correlation with the objective.

    Empty when no coordinate has enough trials: `coordinates_text` then says all there is to say.
    """
    rows = []
    for family, name, coordinate in _coordinates(facts):
        if trend(facts, family, name).n < ENOUGH:
            continue
        best = best_trial(facts, family)
        low, high = searched_range(facts, coordinate)
        at_best = (best.spec.lr if name == "lr" else best.spec.params.get(name)) if best else None
        cells = [code(family), code(name), *_trend_cells(facts, family, name)]
        cells += [f"{significant(low)} to {significant(high)}", _tried(facts, family, name), significant(at_best)]
        rows.append(cells)
    header = ["loss", "hyper-parameter", "reading", "Spearman's ρ", "n", "range", "tried", "best"]
    return table(header, rows, left=3) if rows else ""


def coordinates_text(facts: Facts) -> str:
    """The families with too few completed trials for a trend, with what was tried of them."""
    ranges: dict[str, list[str]] = {}
    for family, name, _ in _coordinates(facts):
        if trend(facts, family, name).n < ENOUGH:
            ranges.setdefault(family, []).append(f"{code(name)} {_tried(facts, family, name)}")
    if not ranges:
        return ""
    all_of_them = all(trend(facts, family, name).n < ENOUGH for family, name, _ in _coordinates(facts))
    who = "every family" if all_of_them else "these families"
    tried = "; ".join(f"{code(family)}: {', '.join(coordinates)}" for family, coordinates in ranges.items())
    return f"Fewer than {ENOUGH} completed trials, too few to show a trend, for {who}. Tried: {tried}."


def _coordinates(facts: Facts) -> list[tuple[str, str, Coordinate]]:
    """(family, coordinate, its range) of every free coordinate of the families that were tried, `lr` included."""
    tried = set(facts.search["family"])
    return [
        (family.family, name, coordinate)
        for family in facts.sweep.space.families
        if family.family in tried
        for name, coordinate in {**family.coordinates, "lr": facts.sweep.space.lr}.items()
        if coordinate.kind != "fixed"
    ]


def _tried(facts: Facts, family: str, name: str) -> str:
    column = "lr" if name == "lr" else f"params.{name}"
    values: pd.Series[float] = facts.search[facts.search["family"] == family][column].dropna()
    if values.empty:
        return MISSING
    low, high = significant(values.min()), significant(values.max())
    return low if low == high else f"{low} to {high}"


def _trend_cells(facts: Facts, family: str, name: str) -> list[str]:
    result = trend(facts, family, name)
    if result.rho is None:
        return ["never varied", MISSING, str(result.n)]
    reading = ("higher is better" if result.rho > 0 else "lower is better") if result.clear else "no clear trend"
    return [reading, signed(result.rho, 2), str(result.n)]


def collapses(facts: Facts) -> str:
    """How often each family failed to learn in the search, and how; empty when none did."""
    frame = facts.search
    rows = []
    for family in facts.families:
        mine = frame[frame["family"] == family]
        kinds = Counter(k for k in mine["collapse"] if k != "none")
        at_default = int((mine["collapse_at_default"] != "none").sum())
        if not kinds and not at_default:
            continue
        how = "; ".join(f"{n} × {Collapse(k).text}" for k, n in kinds.most_common()) or MISSING
        names = Counter(n for t in facts.sweep.trials if t.spec.family == family for n in t.never_predicted)
        never = ", ".join(escape_md(n) for n, _ in names.most_common(3)) or MISSING
        rows.append([code(family), how, never, f"{sum(kinds.values())} of {len(mine)}", f"{at_default} of {len(mine)}"])
    header = ["loss", "how", "classes never predicted", "collapsed", facts.default_name]
    return table(header, rows, left=3) if rows else ""


def collapses_text(facts: Facts) -> str:
    """Names the families that only looked collapsed because they were judged at the default operating point."""
    none = Collapse.NONE
    only = [t for t in facts.sweep.trials if t.collapse is none and t.collapse_at_default is not none]
    if not only:
        return ""
    families = Counter(t.spec.family for t in only)
    names = [f"{code(family)} ({count(n, 'trial')})" for family, n in families.most_common()]
    constant = all(t.collapse_at_default in CONSTANT for t in only)
    gains = [g for t in only if (g := gain_over_constant(facts, t)) is not None]
    by = ""
    if constant and gains:
        low, high = number(min(gains), 2), number(max(gains), 2)
        by = f" (by {low} mIoU)" if low == high else f" (by {low} to {high} mIoU)"
    beat = "beat" if gains and min(gains) >= 0.005 else "did no worse than"  # 0.00 is no gain
    did = f"{beat} a constant answer{by}" if constant else "did not"
    stopped = sum(t.state == "pruned" for t in only)
    they, them = ("it", "it") if len(only) == 1 else ("they", "them")
    which = "all of them" if 1 < stopped == len(only) else "it" if len(only) == 1 else f"{stopped} of them"
    early = f"; {which} {'was' if stopped == 1 else 'were'} stopped early" if stopped else ""
    return (
        f"Collapsed {facts.default_name} only: {listed(names)}. At the chosen {facts.point_name} {they} {did}, so "
        f"{facts.default_name.removeprefix('at ')} was a poor operating point for {them}{early}."
    )


def failures(facts: Facts) -> str:
    """Reasons of failed trials with how often they occurred, commonest first; empty when none failed."""
    failed = [t for t in trainings(facts.sweep) if t.state == "failed"]
    reasons = Counter((t.spec.family, (t.reason or "no reason was recorded")[:300]) for t in failed)
    rows = [[code(f), prose(reason), str(n)] for (f, reason), n in reasons.most_common(20)]
    return table(["loss", "reason", "times"], rows, left=2) if rows else ""
