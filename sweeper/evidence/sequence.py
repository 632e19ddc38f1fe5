"""After each look at the confirmation: go on, with whom, or end, and why.

- A finalist that the best beats by the rule needs no more seeds: the comparison keeps the level of the look at which it
  was won (`sweeper.evidence.looks`). Should another finalist come to lead that does not beat it, it goes on again.
- The baseline goes on as long as anyone does: every finalist's gain is told against it, on common seeds, and that
  number is worth its one training per seed even where the baseline has been beaten.
- The confirmation ends when the verdict is settled, after the last planned look, or when it is *futile*: with all seeds
  still planned the chance that the open comparisons are settled, all of them, is below CHANCE.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sweeper.evidence.futility import Chances, chances_of_settling
from sweeper.evidence.intervals import half_width
from sweeper.evidence.looks import common_seeds, level_at, planned_looks
from sweeper.evidence.rule import difference, measured, units
from sweeper.evidence.settle import needed_half_width, planned_half_width
from sweeper.evidence.verdict import Decision
from sweeper.records import Evidence, Look, Verdict
from sweeper.text import count, listed, minus

__all__ = ["CHANCE", "NextStep", "next_step", "planned_looks"]

CHANCE = 0.10
"""More seeds are trained only where they settle the verdict with at least this probability."""


@dataclass(frozen=True)
class NextStep:
    """Whether the confirmation goes on after a look."""

    go_on: bool
    finalists: tuple[int, ...]
    """Indices into `Evidence.finalists` of those that get more seeds, up to the next look's number; () when it ends."""
    reason: str
    """Why, in one sentence with its numbers."""


def next_step(evidence: Evidence, decision: Decision) -> NextStep:
    """What follows from a look.

    Args:
        evidence: weighed with the planned looks.
        decision: `decide` on this very evidence.
    """
    at = f"after {count(_seeds(evidence), 'seed')}"
    if why := _over(evidence, decision):
        return NextStep(go_on=False, finalists=(), reason=f"The confirmation ended {at}: {why}.")
    assert decision.best is not None  # else it is over
    to_come = evidence.looks[evidence.look + 1 :]
    most, rivals = to_come[-1].seeds, [i for i in decision.unbeaten if measured(evidence, decision.best, i)]
    chances = _chances(evidence, decision.best, rivals, to_come) if rivals else Chances(1.0, ())
    if chances.together < CHANCE:
        rival = rivals[min(range(len(rivals)), key=lambda n: chances.alone[n])]
        pair = f"{evidence.finalists[decision.best].family} against {evidence.finalists[rival].family}"
        what, hardest = pair, ""
        if len(rivals) > 1:
            what = f"all {len(rivals)} open comparisons"
            hardest = f"; the hardest is {pair}, at {_share(min(chances.alone))}"
        reason = (
            f"The confirmation ended {at}: the chance that up to {most} would settle {what} is "
            f"{_share(chances.together)}, and {_share(CHANCE)} is asked for{hardest} "
            f"({_obstacle(evidence, decision.best, rival)})."
        )
        return NextStep(go_on=False, finalists=(), reason=reason)
    on = {decision.best, *decision.unbeaten, *([] if evidence.baseline is None else [evidence.baseline])}
    names = listed([evidence.finalists[i].family for i in sorted(on)])
    odds = f"; the chance that up to {most} settle it is at most {_share(chances.together)}" if rivals else ""
    reason = f"The verdict is open {at}: {names} go on to {to_come[0].seeds} seeds{odds}."
    return NextStep(go_on=True, finalists=tuple(sorted(on)), reason=reason)


def _over(evidence: Evidence, decision: Decision) -> str | None:
    """Why more seeds are of no use, or not to be had; None where they may be."""
    if decision.best is None:
        return "nothing was learned that more seeds could compare"
    if len(evidence.finalists) < 2:
        return "there is only one finalist, and nothing to compare it with"
    if decision.verdict is not Verdict.UNDECIDED:
        return "a clear winner is shown" if decision.verdict is Verdict.CLEAR_WINNER else "equivalence is shown"
    if units(evidence) < 2:
        return f"with {units(evidence)} test picture, no number of seeds can settle it"
    if evidence.look >= len(evidence.looks) - 1:
        return "these were all that were planned, and the verdict is still open"
    return None


def _chances(evidence: Evidence, best: int, rivals: Sequence[int], to_come: Sequence[Look]) -> Chances:
    gaps = [(difference(evidence, best, other), common_seeds(evidence, best, other)) for other in rivals]
    return chances_of_settling(gaps, units(evidence), evidence.rope, to_come)


def _seeds(evidence: Evidence) -> int:
    return max((len(f.seeds) for f in evidence.finalists), default=0)


def _share(chance: float) -> str:
    return f"{100 * chance:.0f} %" if chance >= 0.01 or chance == 0 else "less than 1 %"


def _obstacle(evidence: Evidence, best: int, rival: int) -> str:
    """What stands in the way of this pair: the pictures, whatever the seeds; or what is left at the last look."""
    gap, last = difference(evidence, best, rival), evidence.looks[-1].seeds
    pictures, target = units(evidence), needed_half_width(gap, evidence.rope)
    wanted = minus(f"the difference is {gap.estimate:+.3f}, to be settled by an interval narrower than ± {target:.3f}")
    alone = half_width(0.0, last, gap.se_image**2, pictures, level_at(evidence.looks, last))
    if alone >= target:
        return f"{wanted}; the choice of test pictures alone leaves ± {alone:.3f}, whatever the number of seeds"
    then = planned_half_width(gap, (common_seeds(evidence, best, rival), pictures), (last, pictures), evidence.looks)
    return f"{wanted}; {last} seeds leave some ± {then:.3f}"
