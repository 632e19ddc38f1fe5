"""Losses × rules that make masks of probabilities: one table, and what it says, for a binary study."""

from __future__ import annotations

from sweeper.core.records import DecisionRule, DecisionRules
from sweeper.report.facts import Facts, finalist_name
from sweeper.report.formatting import code, number, signed, signed_interval, table

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
            code(finalist_name(facts, finalist)),
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
    said = [_said(facts, rule) for rule in found.rules if rule.name == "rank_dice"]
    return [
        "RankDice gives each image the threshold that maximises its expected Dice, with probabilities whose slope and "
        "bias were fitted on validation images (Dai and Li 2023). It predicts nothing where that is worth more: an "
        "image without foreground scores 1 then, else 0.",
        *said,
        *([] if facts.chosen is None else [_calibrated(facts, found, facts.finalists.index(facts.chosen))]),
    ]


def _said(facts: Facts, rule: DecisionRule) -> str:
    assert facts.recommendation.evidence is not None and facts.recommendation.evidence.decisions is not None
    rules = facts.recommendation.evidence.decisions.rules
    plain = next(r for r in rules if (r.name, r.metric) == ("plain", rule.metric))
    best, usual = (code(finalist_name(facts, facts.finalists[r.best])) for r in (rule, plain))
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
        f"Expected calibration error of {code(finalist_name(facts, facts.finalists[index]))}: {number(before, 4)}; "
        f"slope {number(found.slopes[index], 2)} and bias {signed(found.biases[index], 2)} bring it to "
        f"{number(after, 4)} (less by {signed_interval(found.ece_gains[index])})."
    )


def decisions_of(facts: Facts) -> DecisionRules | None:
    """What is known of the rules; None where single images are not: of several classes."""
    evidence = facts.recommendation.evidence
    found = None if evidence is None else evidence.decisions
    return found if found is not None and found.ece else None
