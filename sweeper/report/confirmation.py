"""Tables and sentences of the confirmation: finalists, pairs, runs, interim analyses, classes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sweeper.core.records import FinalistEvidence, OtherMeasure
from sweeper.core.text import format_significant, join_words
from sweeper.evidence.intervals import LEVEL
from sweeper.evidence.verdict_predicates import has_beaten
from sweeper.report.card import VERDICTS
from sweeper.report.facts import ReportFacts, find_difference
from sweeper.report.formatting import (
    MISSING,
    escape_md,
    escape_prose,
    format_code,
    format_level,
    format_number,
    format_params,
    format_probability,
    format_signed_number,
    mark_names,
    run_link,
    tabulate,
)

MOST_LINKS = 8
"""Most run links in one cell of the finalists' table."""


def make_finalists_table(facts: ReportFacts) -> str:
    """Return the finalists by test score, with the paired difference to the baseline and the largest cost of each."""
    at = format_level(LEVEL)
    columns: dict[str, Callable[[FinalistEvidence], str]] = {
        "loss": partial(_name_loss, facts),
        "parameters": lambda f: format_params(f.params) or MISSING,
        **({} if _share_rate(facts) else {_name_rate(facts): format_rates}),
        f"test {facts.metric} [{at}]": lambda f: facts.format_score(f.score, f),
        f"vs cross-entropy [{at}]": facts.format_gain_over_baseline,
    }
    if any(f.regret is not None for f in facts.finalists):
        columns["costs at most (95 %)"] = lambda f: (
            MISSING if f.regret is None else facts.format_cost_bound(f.regret.bound)
        )
    return tabulate(facts.finalists, columns, left=2)


def _share_rate(facts: ReportFacts) -> bool:
    rates = {format_rates(finalist) for finalist in facts.finalists}
    return len(rates) == 1 and all(f.rates is None or f.rates.shared for f in facts.finalists)


def _name_rate(facts: ReportFacts) -> str:
    return "learning rate" if facts.sweep.conditions.recipe.command is None else "× your learning rate"


def explain_finalists(facts: ReportFacts) -> str:
    """Explain how the finalists were scored and compared, and at which learning rate if they share one."""
    sentences = [
        f"Means over the seeds, at the {facts.point_name} that each training chose on its own validation images; "
        f'"vs cross-entropy" compares the same images and seeds, with intervals at {facts.joint_level}.'
    ]
    if _share_rate(facts):
        rate, drawn = format_rates(facts.finalists[0]), facts.finalists[0].rates is not None
        kind = _name_rate(facts).replace("×", "factor of")
        sentences.append(
            f"Each seed drew one {kind} for all losses, from {rate}." if drawn else f"All have the {kind} {rate}."
        )
    if any(finalist.regret is not None for finalist in facts.finalists):
        sentences.append(
            f'"Costs at most" is a bound with a probability of {format_level(LEVEL)}, from a hierarchical model of all '
            "finalists (docs/verdict.md)."
        )
    return " ".join(sentences)


def explain_plain_point(facts: ReportFacts) -> list[str]:
    """Explain whether the recommendation depends on tuned points, and for which losses the plain point is better."""
    plain = facts.recommendation.plain
    if plain is None or facts.chosen is None:
        return []
    gap, at = plain.difference, f"{facts.point_name} {facts.default_point:g}"
    other = next(f for f in facts.finalists if f.family == plain.against)
    ahead = "level with" if round(gap.estimate, 3) == 0 else "ahead of" if gap.estimate > 0 else "behind"
    gained = f"{facts.format_gain(gap, facts.chosen, other)} test {facts.metric}"
    best = (
        f", {format_code(plain.best)} scores highest" if plain.best not in (facts.chosen.family, plain.against) else ""
    )
    sentences = [
        f"At {at} {format_code(facts.chosen.family)} is {ahead} {format_code(plain.against)} ({gained}, "
        f"{format_level(LEVEL)}){best}: "
        f"the recommendation {'depends' if plain.depends else 'does not depend'} on the tuned {facts.point_name}."
    ]
    if plain.worse:
        names = join_words([f"{format_code(family)} (by {format_number(by)})" for family, by in plain.worse.items()])
        sentences.append(
            f"On the test images the {facts.point_name} that was tuned on validation images scores worse than "
            f"{facts.default_point:g} with {names}: do not take it over, choose it on your network."
        )
    return sentences


def format_finalists_detail(facts: ReportFacts) -> str:
    """Return a table of the other facts about each finalist.

    They are its trials, its scores in the search, on validation images, at the plain operating point and of the
    foreground, and its probability of being best.
    """
    columns: dict[str, Callable[[FinalistEvidence], str]] = {
        "loss": partial(_name_loss, facts),
        "trials (completed)": lambda f: f"{f.trials_tried} ({f.trials_completed})",
        f"search {facts.objective}": lambda f: format_number(f.search_value),
        "confirmation, validation": lambda f: format_number(f.val_score),
        f"test {facts.metric} {facts.default_name}": lambda f: format_number(f.score_at_default),
    }
    if facts.is_binary:
        columns["foreground IoU"] = lambda f: format_number(f.fg_iou.estimate if f.fg_iou else None)
    if any(f.regret is not None for f in facts.finalists):
        columns["gain, corrected for selection"] = lambda f: format_signed_number(f.regret.gain if f.regret else None)
        columns["probability of being best"] = lambda f: format_probability(f.regret.best) if f.regret else MISSING
    columns["collapsed"] = lambda f: f"{f.collapses} of {f.trainings}"
    columns["seeds"] = lambda f: str(len(f.seeds))
    return tabulate(facts.finalists, columns)


def make_other_measures_table(facts: ReportFacts) -> str:
    """Return a row per measure other than the verdict's metric, with each finalist's score; empty without any."""
    evidence = facts.recommendation.evidence

    def score(i: int, other: OtherMeasure) -> str:
        return facts.format_score(other.scores[i], facts.finalists[i])

    columns: dict[str, Callable[[OtherMeasure], str]] = {f"measure [{format_level(LEVEL)}]": lambda other: other.name}
    columns |= {_name_loss(facts, f): partial(score, i) for i, f in enumerate(facts.finalists)}
    return tabulate(() if evidence is None else evidence.others, columns)


def make_pairs_table(facts: ReportFacts) -> str:
    """Return the difference of every pair of finalists, row minus column; empty for fewer than three."""
    finalists, evidence = facts.finalists, facts.recommendation.evidence
    if evidence is None or len(finalists) < 3:
        return ""

    def subtract(j: int, i: int) -> str:
        gap = find_difference(facts, finalists[i], finalists[j])
        text = MISSING if gap is None else facts.format_gain(gap, finalists[i], finalists[j])
        return f"**{text}**" if gap is not None and has_beaten(evidence, i, j) else text

    columns: dict[str, Callable[[int], str]] = {"row minus column": lambda i: _name_loss(facts, finalists[i])}
    columns |= {f"− {format_code(f.family)}": partial(subtract, j) for j, f in enumerate(finalists)}
    return tabulate(range(len(finalists)), columns)


def explain_other_name(facts: ReportFacts) -> str:
    """Explain that the search found the recommended loss under another name; else empty."""
    if facts.chosen is None or (same := facts.chosen.found_as) is None:
        return ""
    idle = [format_code(name) for name in same.params if name not in same.is_params]
    use = f": the search found no use for its {join_words(idle)}" if idle else ""
    searched = f"{format_code(same.family)} ({format_params(same.params)}, trial {same.trial})"
    return f"The search found it as {searched}, which is the same function on these data{use}."


def make_runs_table(facts: ReportFacts, ui_url: str) -> str:
    """Return links to the runs of each finalist; empty if MLflow has none."""

    def link(finalist: FinalistEvidence) -> str:
        runs = enumerate(finalist.run_ids[:MOST_LINKS], 1)
        return " ".join(run_link(str(i), ui_url, facts.sweep.experiment_id, run) for i, run in runs)

    linked = [f for f in facts.finalists if f.run_ids and facts.sweep.experiment_id is not None]
    return tabulate(linked, {"loss": lambda f: format_code(f.family), "runs of its confirmation": link}, left=2)


def _name_loss(facts: ReportFacts, finalist: FinalistEvidence) -> str:
    name = format_code(finalist.family)
    return f"**{name}**" if finalist is facts.chosen else name


def format_rates(finalist: FinalistEvidence) -> str:
    """Format the learning rate of a finalist's trainings, or the range of their drawn rates."""
    if finalist.rates is None:
        return format_significant(finalist.lr)
    return f"{format_significant(finalist.rates.low)} to {format_significant(finalist.rates.high)}"


# --- Interim analyses ---------------------------------------------------------------------------------------


def make_analyses_table(facts: ReportFacts) -> str:
    """Return a row per planned interim analysis: its result, decision and error; empty without a plan."""
    by_seeds = {analysis.seeds: analysis for analysis in facts.sweep.analyses_taken}
    errors = {seeds: (analysis.error, analysis.error) for seeds, analysis in by_seeds.items()}
    errors |= {plan.seeds: (plan.error, plan.spends) for plan in facts.sweep.analyses_planned}
    columns: dict[str, Callable[[int], str]] = {
        "after seeds": str,
        "verdict": lambda n: VERDICTS[by_seeds[n].verdict] if n in by_seeds else MISSING,
        "what followed": lambda n: (
            escape_prose(mark_names(by_seeds[n].reason, facts.losses)) if n in by_seeds else "not taken"
        ),
        "error it may spend": lambda n: format_level(errors[n][1]),
        "intervals at": lambda n: format_level(1 - errors[n][0]) if errors[n][1] else MISSING,
    }
    return tabulate(sorted(errors), columns, left=3)


def explain_winners_curse(facts: ReportFacts) -> list[str]:
    """Explain how much better the recommended loss scored in the search; empty if its number of steps was another."""
    recipe, curse = facts.sweep.conditions.recipe, facts.recommendation.winners_curse
    if curse is None or recipe.confirm_steps != recipe.steps:
        return []
    higher = "higher" if curse > 0 else "lower"
    moral = "the best of many noisy trials looks better than it is" if curse > 0 else "here it does not show"
    return [
        f"Winner's curse: the recommended configuration scored {format_number(abs(curse))} {facts.metric} {higher} in "
        f"the search (validation images) than on {facts.tested_on}; {moral}."
    ]


# --- Classes ------------------------------------------------------------------------------------------------


def make_classes_table(facts: ReportFacts) -> str:
    """Return test IoU, precision and recall of every class: recommended loss and its rival."""
    pair = [f for f in (facts.chosen, facts.rival) if f is not None]

    def score(field: str, finalist: FinalistEvidence, i: int) -> str:
        return format_number(getattr(finalist, field)[i])

    columns: dict[str, Callable[[int], str]] = {"class": lambda i: escape_md(facts.classes[i])}
    for field, what in {"iou": "IoU", "precision": "precision", "recall": "recall"}.items():
        columns |= {f"{what} {format_code(f.family)}": partial(score, field, f) for f in pair}
    return tabulate(range(len(facts.classes)), columns)
