"""Losses × rules that make masks of probabilities: one table, for a binary study."""

from __future__ import annotations

from sweeper.core.records import DecisionRules
from sweeper.report.facts import Facts, finalist_name
from sweeper.report.formatting import code, number, table

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


def decisions_of(facts: Facts) -> DecisionRules | None:
    """What is known of the rules; None where single images are not: of several classes."""
    evidence = facts.recommendation.evidence
    found = None if evidence is None else evidence.decisions
    return found if found is not None and found.ece else None
