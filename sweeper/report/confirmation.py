"""Tables and sentences of the confirmation: finalists, decision rules, preferences, interim analyses, classes."""

from __future__ import annotations

from sweeper.core.records import DecisionRule, DecisionRules, FinalistEvidence, Preference
from sweeper.core.text import listed, significant
from sweeper.evidence.intervals import LEVEL
from sweeper.evidence.preferences import CARES, choices
from sweeper.report.card import VERDICTS
from sweeper.report.facts import Facts, difference, level_between
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
    signed_interval,
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
        cells = [
            _named(facts, finalist),
            params_text(finalist.params) or MISSING,
            rates_text(finalist),
        ]
        gain = difference(facts, finalist, facts.baseline)
        own = levels.get(id(finalist), usual)
        other = f" at {level(own)}" if own != usual and gain is not None else ""
        against = MISSING if gain is None else facts.gained(gain, finalist, facts.baseline) + other
        cells += [facts.scored(finalist.score, finalist), "baseline" if finalist is facts.baseline else against]
        cells += [MISSING if finalist.regret is None else facts.at_most(finalist.regret.bound)] if likely else []
        rows.append(cells)
    return table(header, rows, left=2)


def plain_point_text(facts: Facts) -> list[str]:
    """Whether the recommendation depends on the tuned points, and where these score worse than the plain one."""
    found = facts.recommendation.plain
    if found is None or facts.chosen is None:
        return []
    gap, at = found.difference, f"{facts.point_name} {facts.default_point:g}"
    other = next(f for f in facts.finalists if f.family == found.against)
    ahead = "level with" if round(gap.estimate, 3) == 0 else "ahead of" if gap.estimate > 0 else "behind"
    gained = f"{facts.gained(gap, facts.chosen, other)} test {facts.metric}"
    best = f", {code(found.best)} scores highest" if found.best not in (facts.chosen.family, found.against) else ""
    sentences = [
        f"At {at} {code(facts.chosen.family)} is {ahead} {code(found.against)} ({gained}, {level(found.level)}){best}: "
        f"the recommendation {'depends' if found.depends else 'does not depend'} on the tuned {facts.point_name}."
    ]
    if found.worse:
        names = listed([f"{code(family)} (by {number(by)})" for family, by in found.worse.items()])
        sentences.append(
            f"On the test images the {facts.point_name} that was tuned on validation images scores worse than "
            f"{facts.default_point:g} with {names}: do not take it over, choose it on your network."
        )
    return sentences


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
        cells = [
            _named(facts, finalist),
            f"{finalist.trials_tried} ({finalist.trials_completed})",
        ]
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
            rows.append([code(finalist.family), " ".join(links)])
    return table(["loss", "runs of its confirmation"], rows, left=2) if rows else ""


def _named(facts: Facts, finalist: FinalistEvidence) -> str:
    name = code(finalist.family)
    return f"**{name}**" if finalist is facts.chosen else name


def rates_text(finalist: FinalistEvidence) -> str:
    """The learning rate of a finalist's trainings, or the range that they were drawn from."""
    if finalist.rates is None:
        return significant(finalist.lr)
    return f"{significant(finalist.rates.low)} to {significant(finalist.rates.high)}"


# --- Losses × rules that make masks of probabilities ---------------------------------------------------------

RULES = {"plain": "threshold 0.5", "tuned": "tuned threshold", "rank_dice": "RankDice"}
METRICS = {"miou": "mIoU", "image_dice": "Dice of an average image"}
"""Rules and metrics, as the report calls them."""


def rules_table(facts: Facts) -> str:
    """A row per finalist: its score by each rule, its calibration error; empty where single images are not known."""
    found = decisions_of(facts)
    if found is None:
        return ""
    names = [f"{METRICS[rule.metric]}, {RULES[rule.name]}" for rule in found.rules]
    header = ["loss", *names, "calibration error, then calibrated"]
    rows = [
        [
            code(finalist.family),
            *(number(rule.scores[i].estimate) for rule in found.rules),
            f"{number(found.ece[i].estimate, 4)}, {number(found.ece_calibrated[i].estimate, 4)}",
        ]
        for i, finalist in enumerate(facts.finalists)
    ]
    return table(header, rows)


def rules_text(facts: Facts) -> list[str]:
    """Whether the best loss is another under RankDice, in a sentence for each metric; what the rules are."""
    found = decisions_of(facts)
    if found is None:
        return []
    of_rank_dice = [_rank_dice_sentence(facts, found, rule) for rule in found.rules if rule.name == "rank_dice"]
    return [
        "RankDice gives each image the threshold that maximises its expected Dice, with probabilities whose slope and "
        "bias were fitted on validation images (Dai and Li 2023). It predicts nothing where that is worth more: an "
        "image without foreground scores 1 then, else 0.",
        *of_rank_dice,
        *([] if facts.chosen is None else [_calibrated(facts, found, facts.finalists.index(facts.chosen))]),
    ]


def _rank_dice_sentence(facts: Facts, found: DecisionRules, rule: DecisionRule) -> str:
    plain = next(r for r in found.rules if (r.name, r.metric) == ("plain", rule.metric))
    best, usual = (code(facts.finalists[r.best].family) for r in (rule, plain))
    spread = [score.estimate for score in plain.scores]
    gain = rule.scores[rule.best].estimate - plain.scores[plain.best].estimate
    text = f"{METRICS[rule.metric]}: at 0.5 the losses lie {number(max(spread) - min(spread))} apart"
    text += f"; RankDice brings the best from {number(max(spread))} to {number(max(spread) + gain)}"
    if rule.best == plain.best:
        return f"{text}, and {best} stays the best."
    return f"{text}, and makes {best} read highest in place of {usual} ({signed_interval(rule.lead)} between them)."


def _calibrated(facts: Facts, found: DecisionRules, index: int) -> str:
    before, after = found.ece[index].estimate, found.ece_calibrated[index].estimate
    return (
        f"Expected calibration error of {code(facts.finalists[index].family)}: {number(before, 4)}; "
        f"slope {number(found.slopes[index], 2)} and bias {signed(found.biases[index], 2)} bring it to "
        f"{number(after, 4)} (less by {signed_interval(found.ece_gains[index])})."
    )


def decisions_of(facts: Facts) -> DecisionRules | None:
    """What is known of the rules; None where single images are not: of several classes."""
    evidence = facts.recommendation.evidence
    found = None if evidence is None else evidence.decisions
    return found if found is not None and found.ece else None


# --- What someone cares about more than the metric of the verdict --------------------------------------------


def preferences_table(facts: Facts) -> str:
    """A row per preference: the choice and its score; empty where nothing was judged or compared."""
    rows = [
        [escape_md(CARES[found.name]), _choice(facts, found, i), _score(facts, found, i)]
        for found, i in choices(facts.recommendation)
    ]
    return table(["if you care most about", "choose", f"its score [{level(LEVEL)}]"], rows, left=2) if rows else ""


def _choice(facts: Facts, found: Preference, index: int) -> str:
    """The loss, in bold where it is not the recommended one, with the operating point that goes with it."""
    finalist = facts.finalists[index]
    name = code(finalist.family) if finalist is facts.chosen else f"**{code(finalist.family)}**"
    return f"{name} at {facts.point_name} {number(found.points[index], 2)}" if found.points else name


def _score(facts: Facts, found: Preference, index: int) -> str:
    score = facts.scored(found.scores[index], facts.finalists[index])
    return score if found.higher_is_better else f"{score}, lower is better"


def preferences_detail(facts: Facts) -> str:
    """By what each was judged; empty where nothing was judged or compared."""
    rows = [[escape_md(CARES[found.name]), escape_md(found.measure)] for found, _ in choices(facts.recommendation)]
    return table(["if you care most about", "measured by"], rows, left=2) if rows else ""


def preferences_text(facts: Facts) -> str:
    """Whether any preference changes the answer."""
    chosen = [facts.finalists[i] for _, i in choices(facts.recommendation)]
    if not chosen or facts.chosen is None:
        return ""
    name = code(facts.chosen.family)
    away = list(dict.fromkeys(code(f.family) for f in chosen if f is not facts.chosen))
    if away:
        return (
            f"In bold where a loss is shown to be better than {name} ({listed(away)}); where none is, {name} stays, "
            "even if another one reads higher."
        )
    return f"None of these changes the answer: no finalist is shown to be better than {name} by any of them."


# --- Interim analyses ---------------------------------------------------------------------------------------


def analyses_table(facts: Facts) -> str:
    """One row per planned interim analysis: what it found and led to, what error it may spend; empty without a plan."""
    taken = {analysis.seeds: analysis for analysis in facts.sweep.analyses_taken}
    errors = {seeds: (analysis.error, analysis.error) for seeds, analysis in taken.items()}
    errors |= {plan.seeds: (plan.error, plan.spends) for plan in facts.sweep.analyses_planned}
    rows = []
    for seeds, (error, spent) in sorted(errors.items()):
        made = taken.get(seeds)
        found = [MISSING, "not taken"]
        if made is not None:
            found = [VERDICTS[made.verdict], prose(naming(made.reason, facts.losses))]
        rows.append([str(seeds), *found, level(spent), level(1 - error) if spent else MISSING])
    header = ["after seeds", "verdict", "what followed", "error it may spend", "intervals at"]
    return table(header, rows, left=3) if rows else ""


def winners_curse(facts: Facts) -> list[str]:
    """How much better the recommended configuration read in the search, in a sentence; none where it trained
    other steps."""
    recipe, curse = facts.sweep.conditions.recipe, facts.recommendation.winners_curse
    if curse is None or recipe.confirm_steps != recipe.steps:
        return []
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
        *(f"{what} {code(f.family)}" for what in ("IoU", "precision", "recall") for f in pair),
    ]

    def values(finalist: FinalistEvidence) -> list[tuple[float | None, ...]]:
        return [finalist.iou, finalist.precision, finalist.recall]

    rows = []
    for i, name in enumerate(facts.classes):
        cells = [number(values(f)[what][i]) for what in range(3) for f in pair]
        rows.append([escape_md(name), *cells])
    return table(header, rows)
