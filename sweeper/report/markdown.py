"""The report's text: the template filled with the answer's words and the study's sections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from html import escape
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sweeper.core.text import format_count
from sweeper.evidence.answer_text import list_rows
from sweeper.evidence.document import AnswerDocument
from sweeper.evidence.phrases import GLOSSARY, STEPS, format_headline, format_remark, list_remarks
from sweeper.report import paper, sections
from sweeper.report.facts import ReportFacts
from sweeper.report.figures import FIGURES, DrawnFigure
from sweeper.report.formatting import escape_md, escape_prose, join_unbroken, make_fence, make_one_line, make_table


def render_report(facts: ReportFacts, figures: Mapping[str, DrawnFigure | str]) -> str:
    """Render the report in GitHub's markdown: the answer and what to mind visible, the rest in `<details>`.

    `figures` has each drawn figure, or the reason for none. A filter of the template escapes names from files, labels
    and errors that are not escaped yet.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # the output is markdown
    )
    environment.globals.update(
        figures=lambda section: _list_figures(section, figures),
        open=lambda summary: f"<details>\n<summary>{escape(summary, quote=False)}</summary>",
        close="</details>",
        sections=sections,
        paper=paper,
        fence=make_fence,
    )
    environment.filters.update(md=escape_md, prose=escape_prose)
    document = facts.document
    missing = [f"{name} ({escape_md(why)})" for name, why in figures.items() if isinstance(why, str)]
    context = {
        "facts": facts,
        "document": document,
        "headline": format_headline(document),
        "head": " ".join(list_remarks(document, "head")),
        "rows": _format_rows(document),
        "steps": _format_steps(document),
        "remarks": list_remarks(document, "text"),
        "folded": list_remarks(document, "fold"),
        "search": _summarise_search(facts),
        "command": make_fence(make_one_line(facts.sweep.rerun), "bash"),
        "words": "\n".join(f"- **{word}**: {escape_prose(meaning)}" for word, meaning in GLOSSARY.items()),
        "left_out": "; ".join(missing),
    }
    return join_unbroken(environment.get_template("report.md.j2").render(context))


def format_note(document: AnswerDocument) -> str:
    """Format the answer in markdown, with its code, or without one with what to do next: the note of an MLflow run."""
    head = [f"**{escape_prose(format_headline(document))}**", *map(escape_prose, list_remarks(document, "head"))]
    snippet = "" if document.use is None else document.use.snippet
    end = make_fence(snippet, "python") if snippet else _format_steps(document)
    parts = [" ".join(head), _format_rows(document), sections.make_classes_table(document), end]
    return join_unbroken("\n\n".join(filter(None, parts)))


def _format_rows(document: AnswerDocument) -> str:
    """Format the rows of the answer as a table without header cells."""
    rows = [[f"**{label}**", escape_prose(text).removeprefix("\\")] for label, text in list_rows(document)]
    return make_table(rows[0], rows[1:], left=2) if rows else ""


def _format_steps(document: AnswerDocument) -> str:
    """Format what to do next as one block of commands, each under its question, and a list of the rest."""
    steps = [(format_remark(step, document, STEPS).removesuffix("."), step.command) for step in document.next]
    commands = [
        f"# {make_one_line(why).replace('`', '')}\n{make_one_line(command)}" for why, command in steps if command
    ]
    rest = [f"- {escape_prose(why)}." for why, command in steps if not command]
    return "\n\n".join(part for part in (make_fence("\n".join(commands), "bash") if commands else "", "\n".join(rest)))


def _list_figures(section: str, drawn: Mapping[str, DrawnFigure | str]) -> str:
    """Return image and caption of each drawn figure of a section."""
    shown = []
    for name, figure in FIGURES.items():
        drawn_figure = drawn.get(name)
        if figure.section == section and isinstance(drawn_figure, DrawnFigure):
            shown.append(drawn_figure.format_markdown(name))
    return "\n\n".join(shown)


def _summarise_search(facts: ReportFacts) -> str:
    """Summarise the search in one line."""
    trials = facts.sweep.trials
    states = Counter[str](trial.state for trial in trials)
    named = {"complete": "complete", "pruned": "stopped early", "failed": "failed"}
    ended = ", ".join(f"{states[state]} {words}" for state, words in named.items() if states[state])
    return ": ".join(filter(None, [format_count(len(trials), "trial"), ended]))
