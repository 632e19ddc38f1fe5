"""Alternatives to the recommended loss: by other decision rules for masks, and by other preferences."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sweeper.core.records import DecisionRule, DecisionRules, Preference
from sweeper.core.text import join_words
from sweeper.evidence.intervals import LEVEL
from sweeper.evidence.preferences import PREFERENCE_TITLES, choose_by_preference, find_rival
from sweeper.report.facts import ReportFacts
from sweeper.report.formatting import (
    MISSING,
    escape_md,
    format_code,
    format_level,
    format_number,
    format_signed_interval,
    format_signed_number,
    tabulate,
)

# --- Losses × decision rules from probabilities to masks ------------------------------------------------------

RULES = {"plain": "threshold 0.5", "tuned": "tuned threshold", "rank_dice": "RankDice"}
METRICS = {"miou": "mIoU", "image_dice": "Dice of an average image"}
"""Display names of rules and metrics."""


def make_rules_table(facts: ReportFacts) -> str:
    """Return a row per finalist: its score by each rule, its calibration error; empty without scores of images."""
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
    """Explain the rules, and whether RankDice changes the best loss by each metric."""
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
    """Return the evidence on the rules; None without scores of single images, as for multi-class tasks."""
    evidence = facts.recommendation.evidence
    decisions = None if evidence is None else evidence.decisions
    return decisions if decisions is not None and decisions.ece else None


# --- Preferences other than the verdict's metric -------------------------------------------------------------


def make_preferences_table(facts: ReportFacts) -> str:
    """Return a row per preference: the choice, its score and lead; empty if nothing was judged or compared."""
    at = format_level(LEVEL)
    columns: dict[str, Callable[[tuple[Preference, int]], str]] = {
        "if you care most about": lambda row: escape_md(PREFERENCE_TITLES[row[0].name]),
        "measure": lambda row: escape_md(row[0].measure.partition(",")[0]),
        "choose": lambda row: _format_choice(facts, *row),
        f"its score [{at}]": lambda row: _format_score(facts, *row),
        f"ahead of [{at}]": lambda row: _format_lead(facts, *row),
    }
    return tabulate(choose_by_preference(facts.recommendation), columns, left=3)


def _format_choice(facts: ReportFacts, preference: Preference, index: int) -> str:
    """Format the loss, in bold if it is not the recommended one, with its operating point."""
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
    if lead.high - lead.low >= 2:  # two seeds are too few for an interval
        gain = f"{format_signed_number(lead.estimate)} (too few seeds)"
    return f"{format_code(other.family)} {gain}"


def explain_preferences(facts: ReportFacts) -> str:
    """Explain whether any preference changes the recommended loss."""
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
