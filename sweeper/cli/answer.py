"""Format the answer card as lines for a terminal."""

from __future__ import annotations

from sweeper.cli.terminal import get_width
from sweeper.core.paths import STORAGE, TRACKING
from sweeper.core.text import fill_words, format_confirm_command, format_option, format_study_command
from sweeper.evidence.recommendation import find_recommended_index
from sweeper.report.card import format_card_lines, make_card
from sweeper.report.facts import ReportFacts, collect_facts
from sweeper.workflow.conclude import Outcome

REASONS, STEPS = 3, 2


def format_answer(
    outcome: Outcome,
    width: int | None = None,
    *,
    storage: str = STORAGE,
    tracking_uri: str = TRACKING,
) -> str:
    """Format the answer for a terminal: card, finalists, reasons, the report's place, and the next steps.

    Commands contain the locations that are not the default. `width`: None = the terminal's columns.
    """
    width = width or get_width()
    recommendation = outcome.recommendation
    facts = collect_facts(outcome.sweep, recommendation)
    card = make_card(facts)
    lines = []
    for label, text in format_card_lines(card):
        words = f"{label}: {text}" if label else text
        lines.append(fill_words(words.replace("\u00a0", " "), width, rest="  " if label else ""))
    if card.language == "bash":
        lines.append(f"Do next: {card.snippet}")
    lines += _format_finalists(facts)
    lines += [fill_words(reason, width, first="- ", rest="  ") for reason in recommendation.reasons[:REASONS]]
    code = "with the code to paste, " if card.language == "python" else ""
    lines.append(f"Report: {outcome.paths.markdown} ({code}report.html next to it)")
    lines += ["", "Next:"]
    lines += [fill_words(step, width, first="  ", rest="  ") for step in outcome.recommendation.next_steps[:STEPS]]
    if recommendation.recommended is not None:
        lines.append(f"  {format_study_command('export', outcome.sweep.study, storage)}")
        if outcome.sweep.conditions.recipe.command is not None:
            lines.append("      the loss as a file, for your script")
        else:
            lines.append("      the loss as a file, and a network trained with it")
            lines.append(f"  {format_confirm_command(outcome.sweep.study, storage)}")
            lines.append("      whether it holds in your own training script")
    lines += [
        f"  sweeper ui{format_option('--tracking-uri', tracking_uri, TRACKING)}",
        "      every training, in MLflow",
    ]
    return "\n".join(lines)


def _format_finalists(facts: ReportFacts) -> list[str]:
    evidence = facts.recommendation.evidence
    if evidence is None or not evidence.finalists:
        return []
    chosen = find_recommended_index(facts.recommendation)
    rows = [
        f"{'→' if i == chosen else ' '} {finalist.family:14} {facts.format_score(finalist.score, finalist)}"
        for i, finalist in enumerate(evidence.finalists)
    ]
    several = any(facts.count_common_seeds(finalist) > 1 for finalist in evidence.finalists)
    return ["", f"  test {facts.metric}{', 95 % interval' if several else ''}", *rows, ""]
