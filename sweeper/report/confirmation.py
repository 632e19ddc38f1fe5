"""Tables and computed sentences of the confirmation: finalists, interim analyses, the winner's curse, classes."""

from __future__ import annotations

from sweeper.core.records import FinalistEvidence
from sweeper.core.text import listed
from sweeper.report.card import VERDICTS
from sweeper.report.facts import Facts, difference, finalist_name, level_between
from sweeper.report.formatting import (
    MISSING,
    code,
    escape_md,
    level,
    naming,
    number,
    params_text,
    probability,
    prose,
    run_link,
    signed,
    significant,
    table,
)

MOST_LINKS = 8
"""Run links in one cell of the finalists' table."""


def finalists_table(facts: Facts) -> str:
    """Finalists by test score, with the paired difference to the baseline and what each can cost."""
    likely = any(f.regret is not None for f in facts.finalists)
    levels = {id(f): level_between(facts, f, facts.baseline) for f in facts.finalists if f is not facts.baseline}
    usual = max(set(levels.values()), key=list(levels.values()).count, default=facts.level)
    header = [
        "loss",
        "parameters",
        "learning rate",
        f"test {facts.metric} [{level(0.95)}]",
        f"vs cross-entropy [{level(usual)}]",
    ]
    header += ["costs at most (95 %)"] if likely else []
    rows = []
    for finalist in facts.finalists:
        cells = [_named(facts, finalist), params_text(finalist.params) or MISSING, rates_text(finalist)]
        gain = difference(facts, finalist, facts.baseline)
        own = levels.get(id(finalist), usual)
        other = f" at {level(own)}" if own != usual and gain is not None else ""
        against = MISSING if gain is None else facts.gained(gain, finalist, facts.baseline) + other
        cells += [facts.scored(finalist.score, finalist), "baseline" if finalist is facts.baseline else against]
        cells += [MISSING if finalist.regret is None else facts.at_most(finalist.regret.bound)] if likely else []
        rows.append(cells)
    return table(header, rows, left=2)


def finalists_detail(facts: Facts) -> str:
    """What else is known of each finalist: how it was tuned, its score in the search, on validation images and at the
    plain operating point, the foreground, probability of being best."""
    likely = any(f.regret is not None for f in facts.finalists)
    header = ["loss", "trials (completed)", f"search {facts.objective}", "confirmation, validation"]
    header += [f"test {facts.metric} {facts.default_name}", *(["foreground IoU"] if facts.binary else [])]
    header += ["gain, allowing for the luck of the highest", "probability of being best"] if likely else []
    header += ["collapsed", "seeds"]
    rows = []
    for finalist in facts.finalists:
        cells = [_named(facts, finalist), f"{finalist.trials_tried} ({finalist.trials_completed})"]
        cells += [number(finalist.search_value), number(finalist.val_score), number(finalist.score_at_default)]
        cells += [number(finalist.fg_iou.estimate if finalist.fg_iou else None)] if facts.binary else []
        if likely:
            best = MISSING if finalist.regret is None else probability(finalist.regret.best)
            cells += [signed(finalist.regret.gain if finalist.regret else None), best]
        rows.append([*cells, f"{finalist.collapses} of {finalist.trainings}", str(len(finalist.seeds))])
    return table(header, rows)


def true_name(facts: Facts) -> str:
    """That the search had another name for what is recommended; empty where it had not."""
    if facts.chosen is None or (same := facts.chosen.found_as) is None:
        return ""
    idle = [code(name) for name in same.params if name not in same.is_params]
    use = f": the search found no use for its {listed(idle)}" if idle else ""
    found = f"{code(same.family)} ({params_text(same.params)}, trial {same.trial})"
    return f"The search found it as {found}, which is the same function on these data{use}."


def runs_table(facts: Facts, ui_url: str) -> str:
    """Links to the runs of each finalist; empty where MLflow has none."""
    rows = []
    for finalist in facts.finalists:
        runs = enumerate(finalist.run_ids[:MOST_LINKS], 1)
        links = [run_link(str(i), ui_url, facts.sweep.experiment_id, run) for i, run in runs]
        if links and facts.sweep.experiment_id is not None:
            rows.append([code(finalist_name(facts, finalist)), " ".join(links)])
    return table(["loss", "runs of its confirmation"], rows, left=2) if rows else ""


def _named(facts: Facts, finalist: FinalistEvidence) -> str:
    name = code(finalist_name(facts, finalist))
    return f"**{name}**" if finalist is facts.chosen else name


def rates_text(finalist: FinalistEvidence) -> str:
    """The learning rate of a finalist's trainings, or the range that they were drawn from."""
    if finalist.rates is None:
        return significant(finalist.lr)
    return f"{significant(finalist.rates.low)} to {significant(finalist.rates.high)}"


# --- Interim analyses ---------------------------------------------------------------------------------------


def analyses_table(facts: Facts) -> str:
    """One row per planned interim analysis: what it found and led to, what error it may spend; empty without a plan."""
    taken = {analysis.seeds: analysis for analysis in facts.sweep.analyses_taken}
    errors = {seeds: (analysis.error, analysis.error) for seeds, analysis in taken.items()}
    errors |= {plan.seeds: (plan.error, plan.spends) for plan in facts.sweep.analyses_planned}
    rows = []
    for seeds, (error, spent) in sorted(errors.items()):
        made = taken.get(seeds)
        passed = "passed over: more seeds were known when this was planned" if seeds < min(taken, default=0) else ""
        found = [MISSING, passed or "not taken"]
        if made is not None:
            found = [VERDICTS[made.verdict], prose(naming(made.reason, facts.losses))]
        rows.append([str(seeds), *found, level(spent), level(1 - error) if spent else MISSING])
    header = ["after seeds", "verdict", "what followed", "error it may spend", "intervals at"]
    return table(header, rows, left=3) if rows else ""


def winners_curse(facts: Facts) -> list[str]:
    """How much better the recommended configuration read in the search, in a sentence; none where it is not known."""
    recipe, curse = facts.sweep.conditions.recipe, facts.recommendation.winners_curse
    if curse is None:
        return []
    if recipe.confirm_steps != recipe.steps:
        return [
            "The winner's curse (the best of many noisy trials looks better than it is) cannot be judged here: "
            f"the confirmation trained {recipe.confirm_steps:,} steps, the search {recipe.steps:,}."
        ]
    higher = "higher" if curse > 0 else "lower"
    moral = "the best of many noisy trials looks better than it is" if curse > 0 else "here it does not show"
    return [
        f"Winner's curse: the recommended configuration read {number(abs(curse))} {facts.metric} {higher} in the "
        f"search (validation images) than on {facts.tested_on}; {moral}."
    ]


# --- Classes ------------------------------------------------------------------------------------------------


def classes_table(facts: Facts) -> str:
    """IoU, precision and recall of every class on the test split: recommended, and the loss beside it."""
    pair = [f for f in (facts.chosen, facts.rival) if f is not None]
    header = [
        "class",
        *(f"{what} {code(finalist_name(facts, f))}" for what in ("IoU", "precision", "recall") for f in pair),
    ]

    def values(finalist: FinalistEvidence) -> list[tuple[float | None, ...]]:
        return [finalist.iou, finalist.precision, finalist.recall]

    rows = []
    for i, name in enumerate(facts.classes):
        cells = [number(values(f)[what][i]) for what in range(3) for f in pair]
        rows.append([escape_md(name), *cells])
    return table(header, rows)
