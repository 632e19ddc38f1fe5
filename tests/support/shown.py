"""What the sessions of a study or a comparison show, checked against what was shown before."""

from __future__ import annotations

from collections.abc import Sequence

from sweeper.core.records import Answer, InterimAnalysis, Outcome, Sure
from sweeper.evidence.interim_analyses import ERROR


class Shown:
    """Errors of the interim analyses, and answers."""

    def __init__(self) -> None:
        self.errors: dict[int, float] = {}
        """By the seeds of the analysis."""
        self.changes: set[float] = set()
        """Margins by which a change was established."""
        self.answers: dict[tuple[float, object], Sure] = {}
        """How sure each answer was, by the margin and the trainings."""

    def check_errors(self, made: Sequence[InterimAnalysis], spent_before: float = 0.0) -> None:
        errors = {analysis.seeds: analysis.error for analysis in made}
        assert self.errors.items() <= errors.items()  # none is forgotten, or made at another level
        assert sum(analysis.spent for analysis in made) + spent_before < ERROR
        self.errors = errors

    def check_answer(self, answer: Answer, margin: float, trained: object) -> None:
        before = {self.answers.get((margin, trained)), Sure.ESTABLISHED if margin in self.changes else None}
        assert answer.sure is not Sure.OPEN or Sure.ESTABLISHED not in before
        self.answers[margin, trained] = answer.sure
        if answer.outcome is Outcome.CHANGE:
            self.changes.add(margin)
