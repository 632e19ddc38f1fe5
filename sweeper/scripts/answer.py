"""The answer of a comparison in the user's training: whether to change, in words, and as files."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

from sweeper.core.base import Record, ShownCommand
from sweeper.core.document import Document, format_json
from sweeper.core.paths import ConfirmationPaths
from sweeper.core.records import Action, Contest
from sweeper.core.text import capitalise, format_count, format_duration, join_words, replace_minus
from sweeper.evidence.verdict_predicates import get_comparison, get_difference, has_beaten, has_enough_seeds
from sweeper.judging.judgement import Judgement
from sweeper.judging.judgement_document import JudgementDocument
from sweeper.judging.table_traps import note_unlearned
from sweeper.scripts.comparison_plan import BASELINE, ConfirmationPlan
from sweeper.scripts.probe import ProbeDocument
from sweeper.scripts.trainings import TrainingRow, note_trainings

NEXT_QUESTIONS: dict[Action, str] = {
    "keep": "More seeds would settle it",
    "change": "Whether another loss is better still, more seeds would show",
}


class LossRow(Record):
    """A loss that was compared."""

    name: str
    family: str
    params: dict[str, float]
    lr_factor: float
    """Factor on the script's learning rate in the confirmation."""
    rates: dict[str, float | None]
    """Score on validation at each factor that was tried; null = that training failed."""


class ConfirmationDocument(Document):
    """Document that `sweeper confirm` prints, and `confirmation.json`."""

    SCHEMA: ClassVar[str] = "sweeper.confirmation/1"

    head: str
    """The answer, in a sentence or two."""
    next_command: str
    """Command that adds seeds; "" if the answer is settled."""
    next_question: str
    """Question that these seeds would answer; "" if the answer is settled."""
    action: Action
    recommended: str
    """Name of the loss to train with."""
    name: str
    command: ShownCommand
    losses: tuple[LossRow, ...]
    seeds: int
    """Number of seeds of the answer."""
    settled: bool
    """Whether more seeds would hardly change the answer."""
    trainings: tuple[TrainingRow, ...]
    probe: ProbeDocument
    judgement: JudgementDocument
    plain: JudgementDocument | None
    """The same at threshold 0.5 or τ = 0; null = the script decides by its own rule."""
    notes: tuple[str, ...]
    """Remarks, as sentences."""
    sources: dict[str, str]
    """Hash of each file of the script's source."""
    commit: str | None
    folder: str


class Confirmation(NamedTuple):
    """The answer, and the judgement that it follows from."""

    document: ConfirmationDocument
    judgement: Judgement
    loss_text: str
    """The recommended loss, as a file that needs only torch."""


def is_settled(contest: Contest) -> bool:
    """Return whether each loss has beaten cross-entropy, was beaten by it, or gains at most the margin over it."""
    base = contest.baseline or 0
    return all(
        has_beaten(contest, i, base) or has_beaten(contest, base, i) or _gains_little(contest, i, base)
        for i in range(len(contest.finalists))
        if i != base
    )


def _gains_little(contest: Contest, i: int, base: int) -> bool:
    return has_enough_seeds(contest, i, base) and get_comparison(contest, i, base).one_sided <= contest.margin


def format_head(judgement: Judgement) -> str:
    """Return the answer in a sentence: the gain of a change, or that cross-entropy is kept and what that may cost."""
    contest, decision = judgement.contest, judgement.decision
    base, digits, unit = contest.baseline or 0, contest.scale.digits, contest.scale.score
    level = f"{100 * judgement.level:.3g} %"
    place = f"in your own training{_format_learned(judgement)}"
    if decision.action == "change":
        gap = get_difference(contest, decision.recommended or 0, base)
        numbers = replace_minus(f"{gap.estimate:+.{digits}f} [{gap.low:+.{digits}f}, {gap.high:+.{digits}f}]")
        return f"Change to {judgement.named}: {numbers} {unit} ({level}) over {BASELINE} {place}."
    others = [i for i in range(len(contest.finalists)) if i != base]
    if is_settled(contest):
        bound = max(0.0, *(get_comparison(contest, i, base).one_sided for i in others))
        limit = f"{bound:.{digits}f} {unit} ({level}, one-sided)"
        return f"Keep {BASELINE}: no other loss gains more than {limit} {place}."
    best = next(i for i in others if not has_beaten(contest, base, i) and not _gains_little(contest, i, base))
    bound, name = get_comparison(contest, best, base).one_sided, contest.finalists[best].family
    limit = f"{bound:.{digits}f} {unit} ({level}, one-sided)"
    return f"Keep {BASELINE} for now: {name} may gain up to {limit} {place}."


def _format_learned(judgement: Judgement) -> str:
    """Return how many classes were learned, if not all."""
    table = judgement.table
    learned = table.classes - len(table.unlearned)
    return f", which learned {learned} of {table.classes} classes" if table.unlearned else ""


class ComparisonResult(NamedTuple):
    """All results of a comparison."""

    name: str
    resume_command: str
    """The command that resumes it."""
    folder: Path
    plan: ConfirmationPlan
    factors: Mapping[str, float]
    """Factor on the learning rate of each loss."""
    tuned: Sequence[TrainingRow]
    """Trainings of the tuning."""
    rows: Sequence[TrainingRow]
    """Trainings of the confirmation."""
    seeds: int
    judgement: Judgement
    plain: Judgement | None
    """Judgement at 0.5 or τ = 0; None where the script itself decides, or all trainings answer alike there."""


def make_document(result: ComparisonResult) -> ConfirmationDocument:
    """Return the answer for programs."""
    plan, judgement = result.plan, result.judgement
    action: Action = judgement.decision.action or "keep"
    is_open = not is_settled(judgement.contest)
    seeds = next((n for n in (8, 13, 21) if n > plan.seeds), 2 * plan.seeds)
    return ConfirmationDocument(
        head=format_head(judgement),
        next_command=f"{result.resume_command} --seeds {seeds}" if is_open else "",
        next_question=NEXT_QUESTIONS[action] if is_open else "",
        action=action,
        recommended=judgement.named,
        name=result.name,
        command=plan.command,
        losses=tuple(
            LossRow(
                **loss.model_dump(),
                lr_factor=result.factors[loss.name],
                rates={f"{row.lr_factor:.3g}": row.val for row in result.tuned if row.loss == loss.name},
            )
            for loss in plan.losses
        ),
        seeds=result.seeds,
        settled=not is_open,
        trainings=(*result.tuned, *result.rows),
        probe=plan.probe,
        judgement=judgement.document,
        plain=None if result.plain is None else result.plain.document,
        notes=tuple(_list_notes(result)),
        sources=plan.sources,
        commit=plan.commit,
        folder=str(result.folder),
    )


CLAIMS: dict[str, str] = {
    "logits": "Logits came back: each training decides at the operating point that its validation images chose",
    "counts": "Counts came back: the answer is about the script's own rule of decision",
    "score": "A score of each image came back: the answer is about that score",
    "number": "One number for each training came back: other images are in no interval",
}


def _list_notes(result: ComparisonResult) -> Iterator[str]:
    plan, judgement, plain = result.plan, result.judgement, result.plain
    yield from note_unlearned(judgement.table.unlearned)
    yield f"{CLAIMS[plan.probe.scores['test']]}."
    yield from (f"{capitalise(note)}." for note in plan.probe.notes)
    if bad := [row for row in (*result.tuned, *result.rows) if row.state != "trained"]:
        titles = [f"{row.loss} (seed {row.seed}, {row.lr_factor:.3g} × the rate) {row.state}" for row in bad]
        yield f"{'; '.join(titles)}. A training that diverged in the confirmation counts with all answers wrong."
    yield from note_trainings(result.tuned, result.rows)
    if len(plan.rates) > 1:
        for end, more in ((min(plan.rates), min(plan.rates) / 3), (max(plan.rates), max(plan.rates) * 3)):
            if names := [name for name, factor in result.factors.items() if factor == end]:
                wider = ",".join(f"{rate:.3g}" for rate in sorted({*plan.rates, more}))
                yield (
                    f"{end:.3g} times your rate, an end of what was tried, was best for {join_words(names)}: --rates "
                    f"{wider} tries more."
                )
    usual = "threshold 0.5" if plan.task.task == "binary" else "τ = 0"
    if plain is None and plan.probe.scores["test"] == "logits":
        yield f"At {usual} all trainings answer alike: the operating point is needed."
    elif plain is not None and (plain.decision.action, plain.named) != (judgement.decision.action, judgement.named):
        yield f"The answer hangs on the operating point. At {usual}: {format_head(plain)}"
    if plan.extended:
        yield "--seeds was raised on the way: intervals are no longer at their level over all looks together."


def format_confirmation(document: ConfirmationDocument) -> str:
    """Format the answer as text."""
    judgement = document.judgement
    width = max(len(row.name) for row in document.losses)
    factors = {row.name: row.lr_factor for row in document.losses}
    lines = [document.head, "", f"  test {judgement.metric}, 95 % interval, {format_count(document.seeds, 'seed')}"]
    for row in judgement.methods:
        ends = "" if row.ci_low is None or row.ci_high is None else f" [{row.ci_low:.3f}, {row.ci_high:.3f}]"
        mark = "→" if row.name == document.recommended else " "
        lines.append(f"{mark} {row.name:{width}}  {row.score:.3f}{ends}  at {factors[row.name]:.3g} × your rate")
    lines += ["", *(f"- {note}" for note in document.notes)]
    if document.next_command:
        lines += ["", f"{document.next_question}:", f"  {document.next_command}"]
    return "\n".join(lines)


def write_confirmation(made: Confirmation, out: Path) -> None:
    """Write `confirmation.json`, `trainings.csv`, and the recommended loss as `loss.py`.

    Raises:
        OSError: if a file cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    paths = ConfirmationPaths(out)
    paths.confirmation.write_text(format_json(made.document.document), "utf-8")
    paths.loss.write_text(made.loss_text, "utf-8")
    with paths.trainings.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(TrainingRow.model_fields))
        writer.writeheader()
        for row in made.document.trainings:
            own_runs = "; ".join(f"{tracker}: {run}" for tracker, run in row.own_runs.items())
            writer.writerow({**row.model_dump(), "own_runs": own_runs})


def format_summary(document: ConfirmationDocument, seconds: float) -> str:
    """Describe in a line what was trained."""
    used = sum(row.megabytes for row in document.trainings)
    return (
        f"{format_count(len(document.trainings), 'training')}, {format_duration(seconds)}; their folders take "
        f"{used:,.1f} MB: {document.folder}"
    )
