"""The parts of the report that `sweeper confirm` adds to a judgement: answer, rates, notes, code and command."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sweeper.core.text import format_count, join_words
from sweeper.report.formatting import escape_md, format_code, format_number, make_fence, tabulate
from sweeper.scripts.answer import ConfirmationDocument, LossRow


def make_lead(document: ConfirmationDocument) -> list[str]:
    """Return title and answer, as markdown paragraphs."""
    trained = format_count(document.seeds, "seed")
    more = [f"{document.next_question}:", make_fence(document.next_command, "bash")] if document.next_command else []
    return [
        f"# Losses in {format_code(document.command)}",
        f"**{escape_md(document.head)}**",
        *more,
        f"{len(document.losses)} losses on {trained} each, {format_count(len(document.trainings), 'training')} of your "
        f"script with {join_words([format_code(row.name) for row in document.losses])}.",
    ]


def make_end(document: ConfirmationDocument, resume_command: str) -> list[str]:
    """Return the parts missing in a judgement, as markdown; `resume_command` resumes the comparison."""
    recommended = next(row for row in document.losses if row.name == document.recommended)
    params = ", ".join(f"{name} {value:.4g}" for name, value in recommended.params.items()) or "no parameters"
    used = sum(row.megabytes for row in document.trainings)
    return [
        "## The loss",
        f"{format_code(document.recommended)} ({params}) at {recommended.lr_factor:.3g} times the script's learning "
        "rate. [loss.py](loss.py) is that loss as one file that needs torch only: `criterion(logits, target)`.",
        *_make_rates(document),
        "## Notes",
        "\n".join(f"- {escape_md(note)}" for note in document.notes),
        "## How to reproduce",
        make_fence(resume_command, "bash"),
        f"trains what is missing and writes this report again. The trainings are in {format_code(document.folder)} "
        f"({used:,.1f} MB); [trainings.csv](trainings.csv) has a row for each, "
        "[confirmation.json](confirmation.json) all of this for programs."
        + (f" Commit {format_code(document.commit[:12])}." if document.commit else ""),
    ]


def _make_rates(document: ConfirmationDocument) -> list[str]:
    """Return the table of the tried rates; empty without any."""
    factors = list(dict.fromkeys(factor for row in document.losses for factor in row.rates))
    if not factors:
        return []

    def format_score(factor: str, row: LossRow) -> str:
        text = format_number(row.rates.get(factor), 4)
        return f"**{text}**" if f"{row.lr_factor:.3g}" == factor else text

    columns: dict[str, Callable[[LossRow], str]] = {"loss": lambda row: format_code(row.name)}
    columns |= {f"{factor} × rate": partial(format_score, factor) for factor in factors}
    table = tabulate(document.losses, columns)
    return ["## Tuning of the rate", table, "Scores on validation, one short training each; in bold the rate taken."]
