"""After each look at the confirmation: go on, with whom, or end, and why."""

from __future__ import annotations

from dataclasses import dataclass

from sweeper.evidence.looks import planned_looks
from sweeper.evidence.verdict import Decision
from sweeper.records import Evidence, Verdict

__all__ = ["NextStep", "next_step", "planned_looks"]


@dataclass(frozen=True)
class NextStep:
    """Whether the confirmation goes on after a look."""

    go_on: bool
    finalists: tuple[int, ...]
    """Indices into `Evidence.finalists` of those that get more seeds; () when it ends."""
    reason: str
    """One sentence."""


def next_step(evidence: Evidence, decision: Decision) -> NextStep:
    """What follows from a look."""
    if decision.verdict is Verdict.NONE or len(evidence.finalists) < 2 or decision.best is None:
        return NextStep(False, (), "The confirmation ended: there is nothing to compare.")
    if decision.verdict is not Verdict.UNDECIDED:
        return NextStep(False, (), "The confirmation ended: the verdict is settled.")
    if not evidence.looks or evidence.look >= len(evidence.looks) - 1:
        return NextStep(False, (), "The confirmation ended: this was the last planned look.")
    on = {decision.best, *decision.unbeaten, *([] if evidence.baseline is None else [evidence.baseline])}
    return NextStep(True, tuple(sorted(on)), "The verdict is open: the confirmation goes on.")
