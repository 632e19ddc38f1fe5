"""Tables and sentences of the confirmation: finalists, decision rules, preferences, interim analyses, classes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sweeper.core.records import DecisionRule, DecisionRules, FinalistEvidence, Preference
from sweeper.core.text import format_significant, join_words
from sweeper.evidence.decision_rule import has_beaten
from sweeper.evidence.intervals import LEVEL
from sweeper.evidence.preferences import CARES, choose_by_preference, find_rival
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
    format_signed_interval,
    format_signed_number,
    mark_names,
    run_link,
    tabulate,
)

MOST_LINKS = 8
"""Run links in one cell of the finalists' table."""


def make_finalists_table(facts: ReportFacts) -> str:
    """Finalists by test score, with the paired difference to the baseline and what each can cost."""
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
    """Return how the finalists were scored and compared, and at which learning rate if all had the same."""
    point = f"{facts.point_name} {facts.default_point:g}"
    if facts.sweep.conditions.recipe.threshold == "tuned":
        point = f"the {facts.point_name} that each training chose on its own validation images"
    sentences = [
        f"Means over the seeds, at {point}; "
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
    """Return whether the recommendation depends on tuned points, and where these score worse than the plain one."""
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
    """Return the other facts about each finalist.

    They are how it was tuned, its scores in the search, on validation images and at the plain operating point, the
    foreground, and the probability of being best.
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
    """Return that the search had another name for the recommended loss; empty if it had not."""
    if facts.chosen is None or (same := facts.chosen.found_as) is None:
        return ""
    idle = [format_code(name) for name in same.params if name not in same.is_params]
    use = f": the search found no use for its {join_words(idle)}" if idle else ""
    searched = f"{format_code(same.family)} ({format_params(same.params)}, trial {same.trial})"
    return f"The search found it as {searched}, which is the same function on these data{use}."


def make_runs_table(facts: ReportFacts, ui_url: str) -> str:
    """Links to the runs of each finalist; empty where MLflow has none."""

    def link(finalist: FinalistEvidence) -> str:
        runs = enumerate(finalist.run_ids[:MOST_LINKS], 1)
        return " ".join(run_link(str(i), ui_url, facts.sweep.experiment_id, run) for i, run in runs)

    linked = [f for f in facts.finalists if f.run_ids and facts.sweep.experiment_id is not None]
    return tabulate(linked, {"loss": lambda f: format_code(f.family), "runs of its confirmation": link}, left=2)


def _name_loss(facts: ReportFacts, finalist: FinalistEvidence) -> str:
    name = format_code(finalist.family)
    return f"**{name}**" if finalist is facts.chosen else name


def format_rates(finalist: FinalistEvidence) -> str:
    """Return the learning rate of a finalist's trainings, or the range that they were drawn from."""
    if finalist.rates is None:
        return format_significant(finalist.lr)
    return f"{format_significant(finalist.rates.low)} to {format_significant(finalist.rates.high)}"


# --- Losses × rules that make masks of probabilities ---------------------------------------------------------

RULES = {"plain": "threshold 0.5", "tuned": "tuned threshold", "rank_dice": "RankDice"}
METRICS = {"miou": "mIoU", "image_dice": "Dice of an average image"}
"""Rules and metrics, as the report calls them."""


def make_rules_table(facts: ReportFacts) -> str:
    """Return a row per finalist: its score by each rule, its calibration error; empty without single images."""
    decisions = get_decision_rules(facts)
    if decisions is None:
        return ""

    def score(rule: DecisionRule, i: int) -> str:
        return format_number(rule.scores[i].estimate)

    columns: dict[str, Callable[[int], str]] = {"loss": lambda i: format_code(facts.finalists[i].family)}
    columns |= {f"{METRICS[rule.metric]}, {RULES[rule.name]}": partial(score, rule) for rule in decisions.rules}
    columns["calibration error, then calibrated"] = lambda i: ", ".join(
        format_number(errors[i].estimate, 4) for errors in (decisions.ece, decisions.ece_calibrated)
    )
    return tabulate(range(len(facts.finalists)), columns)


def explain_rules(facts: ReportFacts) -> list[str]:
    """Return whether RankDice changes the best loss, in a sentence for each metric, and what the rules are."""
    decisions = get_decision_rules(facts)
    if decisions is None:
        return []
    chosen = [] if facts.chosen_index is None else [facts.chosen_index]
    return [
        "RankDice gives each image the threshold that maximises its expected Dice, with probabilities whose slope and "
        "bias were fitted on validation images (Dai and Li 2023). It predicts nothing where that is worth more: an "
        "image without foreground scores 1 then, else 0.",
        *(_rank_dice_sentence(facts, decisions, rule) for rule in decisions.rules if rule.name == "rank_dice"),
        *(_explain_calibration(facts, decisions, i) for i in chosen),
    ]


def _rank_dice_sentence(facts: ReportFacts, decisions: DecisionRules, rule: DecisionRule) -> str:
    plain = next(r for r in decisions.rules if (r.name, r.metric) == ("plain", rule.metric))
    best, usual = (format_code(facts.finalists[r.best].family) for r in (rule, plain))
    spread = [score.estimate for score in plain.scores]
    gain = rule.scores[rule.best].estimate - plain.scores[plain.best].estimate
    text = f"{METRICS[rule.metric]}: at 0.5 the losses are {format_number(max(spread) - min(spread))} apart"
    text += f"; RankDice brings the best from {format_number(max(spread))} to {format_number(max(spread) + gain)}"
    if rule.best == plain.best:
        return f"{text}, and {best} stays the best."
    return (
        f"{text}, and makes {best} read highest in place of {usual} ({format_signed_interval(rule.lead)} between them)."
    )


def _explain_calibration(facts: ReportFacts, decisions: DecisionRules, index: int) -> str:
    before, after = decisions.ece[index].estimate, decisions.ece_calibrated[index].estimate
    return (
        f"Expected calibration error of {format_code(facts.finalists[index].family)}: {format_number(before, 4)}; "
        f"slope {format_number(decisions.slopes[index], 2)} and bias "
        f"{format_signed_number(decisions.biases[index], 2)} bring it to {format_number(after, 4)} (less by "
        f"{format_signed_interval(decisions.ece_gains[index])})."
    )


def get_decision_rules(facts: ReportFacts) -> DecisionRules | None:
    """Return what is known of the rules; None if single images are not known, as for several classes."""
    evidence = facts.recommendation.evidence
    decisions = None if evidence is None else evidence.decisions
    return decisions if decisions is not None and decisions.ece else None


# --- What someone cares about more than the metric of the verdict --------------------------------------------


def make_preferences_table(facts: ReportFacts) -> str:
    """Return a row per preference: the choice, its score and lead; empty if nothing was judged or compared."""
    at = format_level(LEVEL)
    columns: dict[str, Callable[[tuple[Preference, int]], str]] = {
        "if you care most about": lambda row: escape_md(CARES[row[0].name]),
        "measure": lambda row: escape_md(row[0].measure.partition(",")[0]),
        "choose": lambda row: _format_choice(facts, *row),
        f"its score [{at}]": lambda row: _format_score(facts, *row),
        f"ahead of [{at}]": lambda row: _format_lead(facts, *row),
    }
    return tabulate(choose_by_preference(facts.recommendation), columns, left=3)


def _format_choice(facts: ReportFacts, preference: Preference, index: int) -> str:
    """Return the loss, in bold if it is not the recommended one, with the operating point that goes with it."""
    finalist = facts.finalists[index]
    name = format_code(finalist.family) if finalist is facts.chosen else f"**{format_code(finalist.family)}**"
    return f"{name} at {facts.point_name} {format_number(preference.points[index], 2)}" if preference.points else name


def _format_score(facts: ReportFacts, preference: Preference, index: int) -> str:
    score = facts.format_score(preference.scores[index], facts.finalists[index])
    return score if preference.higher_is_better else f"{score}, lower is better"


def _format_lead(facts: ReportFacts, preference: Preference, index: int) -> str:
    if (rival := find_rival(preference, index, facts.chosen_index)) is None:
        return MISSING
    other, lead = facts.finalists[rival[0]], rival[1]
    gain = facts.format_gain(lead, facts.finalists[index], other)
    if lead.high - lead.low >= 2:  # of two seeds, which do not show how much a third would change
        gain = f"{format_signed_number(lead.estimate)} (too few seeds)"
    return f"{format_code(other.family)} {gain}"


def explain_preferences(facts: ReportFacts) -> str:
    """Return whether any preference changes the answer."""
    chosen = [facts.finalists[i] for _, i in choose_by_preference(facts.recommendation)]
    if not chosen or facts.chosen is None:
        return ""
    name = format_code(facts.chosen.family)
    away = list(dict.fromkeys(format_code(f.family) for f in chosen if f is not facts.chosen))
    if away:
        return (
            f"In bold: a loss that is clearly better than {name} ({join_words(away)}); where none is, {name} "
            "stays, even if another one scores higher."
        )
    return f"None of these changes the answer: no finalist is clearly better than {name} by any of them."


# --- Interim analyses ---------------------------------------------------------------------------------------


def make_analyses_table(facts: ReportFacts) -> str:
    """Return a row per planned interim analysis: its result and decision, its error; empty without a plan."""
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
    """Return how much better the recommended configuration scored in the search; empty if it trained other steps."""
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
    """Return IoU, precision and recall of every class on the test split: recommended loss and its rival."""
    pair = [f for f in (facts.chosen, facts.rival) if f is not None]

    def score(field: str, finalist: FinalistEvidence, i: int) -> str:
        return format_number(getattr(finalist, field)[i])

    columns: dict[str, Callable[[int], str]] = {"class": lambda i: escape_md(facts.classes[i])}
    for field, what in {"iou": "IoU", "precision": "precision", "recall": "recall"}.items():
        columns |= {f"{what} {format_code(f.family)}": partial(score, field, f) for f in pair}
    return tabulate(range(len(facts.classes)), columns)
