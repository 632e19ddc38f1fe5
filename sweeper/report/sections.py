"""Tables and sentences of the report in markdown, one function each, from `ReportFacts`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from sweeper.core.records import ClassProfile, Collapse, ImbalanceProfile
from sweeper.core.text import format_significant, join_words
from sweeper.report.facts import ReportFacts, find_best_trial
from sweeper.report.formatting import (
    MISSING,
    escape_md,
    escape_prose,
    format_code,
    format_number,
    format_params,
    format_share,
    format_signed_number,
    make_table,
    run_link,
    tabulate,
)
from sweeper.report.tables import list_trainings


def make_profile_table(profile: ImbalanceProfile) -> str:
    """Return the imbalance fingerprint, one row per class."""
    weights = dict(zip(profile.classes, profile.class_weights, strict=False))
    columns: dict[str, Callable[[ClassProfile], str]] = {
        "class": lambda c: escape_md(c.name),
        "of labelled pixels": lambda c: format_share(c.pixel_share),
        "of images": lambda c: format_share(c.image_share),
        "components": lambda c: f"{c.components:,}",
        "their pixels (10 / 50 / 90 %)": lambda c: " / ".join(f"{v:,.0f}" for v in c.component_pixels or ()) or MISSING,
        "thin": lambda c: format_share(c.thinness),
        "1/f weight": lambda c: format_significant(weights.get(c)),
    }
    return tabulate(profile.classes, columns)


def make_leaderboard(facts: ReportFacts, ui_url: str) -> str:
    """Return the best search trial of every tried family, best first, with its trials by outcome."""
    entries = []
    timed = facts.frame[facts.frame["seconds_per_step"] > 0]
    milliseconds = 1000 * timed.groupby("family")["seconds_per_step"].median()
    for family in facts.families:
        mine = facts.search_trials[facts.search_trials["family"] == family]
        if mine.empty:
            continue
        best, states = find_best_trial(facts, family), mine["state"].value_counts()
        last = best.evaluations[-1] if best is not None and best.evaluations else None
        settings = link = MISSING
        if best is not None:
            settings = ", ".join(
                p for p in (format_params(best.spec.params), f"`lr` {format_significant(best.spec.lr)}") if p
            )
            link = run_link(f"trial {best.spec.number}", ui_url, facts.sweep.experiment_id, best.run_id)
        cells = [format_code(family), settings, format_number(best.value if best else None)]
        cells += [format_number(last.default.miou if last else None), format_number(last.point if last else None, 2)]
        cells += [format_significant(milliseconds.get(family))]
        counts = [
            len(mine),
            *(states.get(s, 0) for s in ("complete", "pruned", "failed")),
            (mine["collapse"] != "none").sum(),
        ]
        entries.append((-(best.value or 0.0) if best else 1.0, [*cells, *(str(int(n)) for n in counts), link]))
    header = ["loss", "best trial", f"validation {facts.objective}", f"mIoU {facts.default_name}", facts.point_name]
    header += ["ms per step", "trials", "complete", "pruned", "failed", "collapsed", "run"]
    return make_table(header, [cells for _, cells in sorted(entries, key=lambda e: e[0])], left=2)


def make_ladder_table(facts: ReportFacts) -> str:
    """Return the budgets tried before the search, and the scores of two losses at each; empty if none were tried."""
    rungs = facts.sweep.rungs
    if not rungs:
        return ""
    losses = list(dict.fromkeys(name for rung in rungs for name in rung.scores))
    rows = []
    for rung in rungs:
        best = {
            name: max(((ious[i] or 0.0) for ious in rung.iou.values()), default=0.0)
            for i, name in enumerate(facts.classes)
        }
        missing = [f"{escape_md(name)} {format_number(best[name], 2)}" for name in rung.not_learned]
        scores = [format_number(rung.scores.get(name)) for name in losses]
        gap = MISSING if rung.gap is None else format_signed_number(rung.gap)
        rows.append([f"{rung.steps:,}", ", ".join(missing) or "none", *scores, gap])
    return make_table(["steps", "classes not learned, with their IoU", *map(format_code, losses), "gap"], rows, left=2)


def list_untried(facts: ReportFacts) -> str:
    """List the space's families without any trial."""
    tried = set(facts.search_trials["family"])
    names = [format_code(f) for f in facts.families if f not in tried]
    return f"Not tried: {join_words(names)}." if names else ""


def explain_collapse_rates(facts: ReportFacts) -> str:
    """Explain how often and how each family's complete trials collapsed, and which classes they never predict."""
    rows = []
    for family in facts.families:
        mine = [t for t in facts.sweep.trials if t.spec.family == family and t.state == "complete"]
        kinds = Counter(t.collapse.text for t in mine if t.has_collapsed)
        at_default = sum(t.classify_end(t.collapse_at_default) is not Collapse.NONE for t in mine)
        names = Counter(name for t in mine for name in t.missing_classes)
        if not (kinds or at_default or names):
            continue
        how = "; ".join(f"{n} × {kind}" for kind, n in kinds.most_common()) or MISSING
        never = ", ".join(f"{escape_md(name)} in {n}" for name, n in names.most_common(3)) or MISSING
        rows.append([format_code(family), how, never, *(f"{n} of {len(mine)}" for n in (kinds.total(), at_default))])
    header = ["loss", "how", "classes not predicted", "collapsed", facts.default_name]
    return make_table(header, rows, left=3) if rows else ""


def list_failures(facts: ReportFacts) -> str:
    """Return the reasons of failed trainings with their counts, most common first; empty if none failed."""
    failed = [t for t in list_trainings(facts.sweep) if t.state == "failed"]
    reasons = Counter((t.spec.family, (t.reason or "no reason was recorded")[:300]) for t in failed)
    rows = [[format_code(f), escape_prose(reason), str(n)] for (f, reason), n in reasons.most_common(20)]
    return make_table(["loss", "reason", "times"], rows, left=2) if rows else ""
