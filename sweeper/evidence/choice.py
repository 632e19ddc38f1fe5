"""The choice: change, keep, or take which loss, and how sure that is. One rule for studies, scripts and judgements.

A finalist is *eligible* unless every one of its trainings collapsed. It *beats* a rival when, at an interim analysis,
the paired interval of their difference is above 0 and its estimate is at least the margin; a beaten rival stays beaten.
Fewer than 3 common seeds establish nothing. *Best* is the eligible finalist that none beats and that scores highest by
differences on common seeds (the mean of a finalist that was dropped early may be high on its fewer ones).

The present loss is the one that is used now: cross-entropy, unless the user gives another.

- change: at least one finalist that learned beats the present loss. One of those that no other finalist beats is used.
- keep: otherwise, if the present loss learned, did not collapse (unless all that remain did), and the best does not
  beat it.
- take: where that fails, or there is no present loss.
- none: nothing completed, or no eligible finalist is better than a constant answer.

A change whose gain is below the margin in the final training, or not shown there on all of its seeds, is no change: the
present loss is kept, at the cost that the final training shows, which is not known unless it trained every finalist.

How sure it is that the used loss costs at most the margin:

- established: a change; or the used loss is *safe* (`is_safe`), or equivalent to all that may be the best.
- probable: the bound of its regret is within the margin (`sweeper.evidence.regret`).
- open: neither.

Of several suitable finalists `choose_preferred` uses one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from sweeper.core.records import Contest, FinalComparison, Outcome, Sure
from sweeper.evidence.final_comparison import MOST_SEEDS
from sweeper.evidence.verdict_predicates import (
    choose_preferred,
    get_comparison,
    get_difference,
    has_beaten,
    has_learned,
    is_beaten,
    is_equivalent,
    is_probably_safe,
    is_safe,
    is_sound,
    is_win,
    rank_simplicity,
)


@dataclass(frozen=True)
class Choice:
    """What the evidence allows; indices refer to `Contest.finalists`."""

    outcome: Outcome
    use: int | None = None
    """None only for outcome `none`."""
    sure: Sure = Sure.OPEN
    cost: float | None = None
    """Largest cost of `use` against the best (95 %), ≥ 0; None = not known."""
    best: int | None = None
    """The eligible finalist with the highest score on common seeds that none beats."""
    unbeaten: tuple[int, ...] = ()
    """The others that `best` does not beat."""
    is_settled: bool = False
    """Whether more seeds would change nothing: best beats every rival, or all that may be the best are equivalent."""
    faded: FinalComparison | None = None
    """The gain that the final training does not show, so that the present loss is kept."""


NOTHING = Choice(Outcome.NONE)


def choose(contest: Contest | None, order: Sequence[str]) -> Choice:
    """Choose by the rule above; `order` has the names of losses, simplest first."""
    if contest is None or not contest.finalists:
        return NOTHING
    eligible = [i for i, f in enumerate(contest.finalists) if f.collapses < f.trainings]
    if not any(has_learned(contest, i) for i in eligible):
        return NOTHING
    if len(contest.finalists) == 1:
        return _choose_alone(contest)
    standing = [i for i in eligible if not is_beaten(contest, i, eligible)] or eligible
    first = min(standing)  # finalists are ordered by their scores on common seeds
    ties = [i for i in standing if i == first or get_difference(contest, first, i).estimate == 0]
    best = min(ties, key=lambda i: rank_simplicity(contest, i, order))
    unbeaten = tuple(i for i in range(len(contest.finalists)) if i != best and not has_beaten(contest, best, i))
    candidates = [i for i in eligible if i == best or i in unbeaten]
    outcome, allowed = _choose_outcome(contest, standing, candidates)
    is_winner = not unbeaten and is_sound(contest, best)
    are_alike = len(candidates) > 1 and set(unbeaten) <= set(eligible)
    are_alike = are_alike and all(is_equivalent(contest, i, j) for i, j in combinations(candidates, 2))
    safes = [i for i in allowed if is_safe(contest, i, best, unbeaten)]
    is_settled = is_winner or are_alike
    among = safes or allowed
    if is_winner:
        among = [best]
    elif are_alike:
        among = [i for i in candidates if i in allowed] or among
    use = choose_preferred(contest, among, order, change=outcome is Outcome.CHANGE)
    sure = Sure.PROBABLE if is_probably_safe(contest, use) else Sure.OPEN
    if outcome is Outcome.CHANGE or is_settled or use in safes:
        sure = Sure.ESTABLISHED
    cost = _bound_cost(contest, use, (best, *unbeaten), is_safe=use in safes or are_alike)
    return Choice(outcome, use, sure, cost, best, unbeaten, is_settled=is_settled)


def _choose_alone(contest: Contest) -> Choice:
    """Return the choice of the only finalist, which is established where all that was tried is this function."""
    outcome = Outcome.TAKE if contest.baseline is None else Outcome.KEEP
    if not contest.finalists[0].other_names:
        return Choice(outcome, 0, best=0)
    return Choice(outcome, 0, Sure.ESTABLISHED, 0.0, 0, is_settled=True)


def _choose_outcome(
    contest: Contest, standing: Sequence[int], candidates: Sequence[int]
) -> tuple[Outcome, Sequence[int]]:
    """Return the outcome by the rule above, and the finalists that may then be used.

    `standing` are the eligible ones that no eligible one beats; `candidates` are the best and the eligible ones that it
    does not beat.
    """
    base = contest.baseline
    if base is None:
        return Outcome.TAKE, candidates
    learned = [i for i in range(len(contest.finalists)) if i != base and has_learned(contest, i)]
    gaining, better = [i for i in learned if has_beaten(contest, i, base)], [i for i in learned if i in standing]
    if gaining and better:
        return Outcome.CHANGE, [i for i in better if i in gaining] or better
    kept = base in candidates and has_learned(contest, base)
    if kept and (is_sound(contest, base) or not any(is_sound(contest, i) for i in candidates)):
        return Outcome.KEEP, [base]
    return Outcome.TAKE, candidates


def _bound_cost(contest: Contest, use: int, rivals: Sequence[int], *, is_safe: bool) -> float | None:
    """Return the bound of the regret, or, where it exceeds a margin that intervals establish, theirs."""
    regret = contest.finalists[use].regret
    if is_safe and (regret is None or regret.bound > contest.margin):
        return max([0.0, *(get_comparison(contest, i, use).one_sided for i in rivals if i != use)])
    return None if regret is None else regret.bound


def apply_final_training(contest: Contest, choice: Choice, final: FinalComparison | None) -> Choice:
    """Return the choice after the final training: a change whose gain it does not show is none."""
    base = contest.baseline
    if choice.outcome is not Outcome.CHANGE or choice.use is None:
        return choice
    if final is None or base is None:
        return choice
    names = [contest.finalists[i].family for i in (choice.use, base)]
    is_open = final.seeds < MOST_SEEDS and final.after.estimate >= contest.margin
    if [final.first, final.second] != names or is_open or is_win(final.after, contest.margin):
        return choice
    cost = max(0.0, final.after.high) if len(contest.finalists) == 2 else None
    sure = Sure.PROBABLE if cost is not None and cost <= contest.margin else Sure.OPEN
    return replace(choice, outcome=Outcome.KEEP, use=base, sure=sure, cost=cost, faded=final)
