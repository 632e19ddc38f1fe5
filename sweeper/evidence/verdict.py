"""What the evidence proves: the verdict, whom it recommends, and why, in sentences.

The rule. A finalist is *eligible* unless every one of its trainings collapsed. Let *best* be the eligible finalist with
the highest mean test mIoU. It *beats* a rival when the paired interval of best − rival lies above 0 and its estimate
is at least the region of practical equivalence (ROPE).

- clear_winner: best beats every rival. Each comparison is made at 95 % and all must succeed, an intersection–union
  test, so that the number of rivals needs no further correction (Berger 1982).
- equivalent: at least two are left (best and those it does not beat), and all their paired intervals lie within
  ± ROPE. The simplest by the declared order is recommended.
- undecided: anything else. The simplest of those left is recommended meanwhile, passing over losses of which a
  training collapsed, or which are no better than a constant answer, while another is left.
- none: nothing completed, nothing is eligible, or no eligible finalist is better than a constant answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from sweeper.evidence.settle import listed, minus, what_would_settle
from sweeper.records import Evidence, Interval, Verdict

LEARNED = 0.002
"""Test mIoU by which a finalist must beat a constant answer to have learned anything: the margin by which collapses are
judged too (`sweeper.training.collapse`)."""


@dataclass(frozen=True)
class Decision:
    """The verdict on some evidence; indices point into `Evidence.finalists`."""

    verdict: Verdict
    recommended: int | None
    """None for verdict `none` alone."""
    provisional: bool
    """A settled verdict that may hold at this budget only, because the baseline still improved."""
    reasons: tuple[str, ...]
    next_steps: tuple[str, ...]
    best: int | None = None
    """The eligible finalist with the highest estimate; None for verdict `none`."""
    unbeaten: tuple[int, ...] = ()
    """The others that `best` does not beat."""


def decide(evidence: Evidence | None, order: Sequence[str]) -> Decision:
    """The verdict on `evidence` by the rule above.

    Args:
        evidence: what the confirmation showed; None (or without finalists) where nothing completed.
        order: family names, simplest first; a family not in it counts as less simple than all that are.
    """
    if evidence is None or not evidence.finalists:
        return Decision(
            Verdict.NONE,
            None,
            False,
            ("No confirmation training completed, so that nothing can be recommended.",),
            ("Read the reasons of the failed trainings, mend their cause, and resume the study.",),
        )
    eligible = [i for i, f in enumerate(evidence.finalists) if f.collapses < len(f.seeds)]
    if not any(has_learned(evidence, i) for i in eligible):
        return _nothing_learned(evidence, eligible)
    best = min(eligible, key=lambda i: (-evidence.finalists[i].miou.estimate, *_simplicity(evidence, i, order)))
    if len(evidence.finalists) == 1:
        return _nothing_compared(evidence)
    unbeaten = [i for i in range(len(evidence.finalists)) if i != best and not _beats(evidence, best, i)]
    left = [i for i in eligible if i == best or i in unbeaten]
    hopeless = [i for i in unbeaten if i not in eligible]
    if not unbeaten:
        verdict, recommended = Verdict.CLEAR_WINNER, best
        reasons = [_beating(evidence, best, i) for i in _others(evidence, best)]
    elif len(left) >= 2 and not hopeless and all(_same(evidence, i, j) for i, j in combinations(left, 2)):
        verdict, recommended = Verdict.EQUIVALENT, _simplest(evidence, left, order)
        reasons = _equivalence(evidence, left, recommended)
        reasons += [_beating(evidence, best, i) for i in _others(evidence, best) if i not in left]
    else:
        verdict, recommended = Verdict.UNDECIDED, _simplest(evidence, left, order)
        reasons = [_doubt(evidence, best, i) for i in unbeaten]
        reasons += [_beating(evidence, best, i) for i in _others(evidence, best) if i not in unbeaten]
        reasons.append(_meanwhile(evidence, best, left, recommended))
    rising = _baseline_gain(evidence)
    provisional = not _is_open(verdict) and rising > evidence.rope
    pairs = _open_pairs(evidence, best, recommended, unbeaten) if _is_open(verdict) else []
    next_steps = what_would_settle(evidence, pairs)
    if rising > evidence.rope:
        reasons.append(_still_rising(evidence, rising, provisional))
        next_steps.append(
            "Confirm with more steps, until the baseline's curve is flat: `--resume` with a larger `--confirm-steps` "
            "goes on with the same study."
        )
    reasons += _collapsed(evidence)
    return Decision(verdict, recommended, provisional, tuple(reasons), tuple(next_steps), best, tuple(unbeaten))


# --- The rule -----------------------------------------------------------------------------------------------


def difference(evidence: Evidence, first: int, second: int) -> Interval:
    """The paired difference `first` − `second`.

    Raises:
        ValueError: if the evidence does not hold that pair.
    """
    for comparison in evidence.comparisons:
        if (comparison.first, comparison.second) == (first, second):
            return comparison.difference
    raise ValueError(f"evidence must hold all ordered pairs of finalists, got none for ({first}, {second})")


def _measured(evidence: Evidence, i: int, j: int) -> bool:
    """Whether both parts of a difference's variance could be estimated at all."""
    common = set(evidence.finalists[i].seeds) & set(evidence.finalists[j].seeds)
    return len(common) >= 2 and evidence.test_pictures >= 2


def _beats(evidence: Evidence, best: int, rival: int) -> bool:
    gap = difference(evidence, best, rival)
    return _measured(evidence, best, rival) and gap.low > 0 and gap.estimate >= evidence.rope


def _same(evidence: Evidence, i: int, j: int) -> bool:
    gap = difference(evidence, i, j)
    return _measured(evidence, i, j) and -evidence.rope <= gap.low and gap.high <= evidence.rope


def _is_open(verdict: Verdict) -> bool:
    return verdict is Verdict.UNDECIDED


def _open_pairs(evidence: Evidence, best: int, recommended: int, unbeaten: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs that are neither told apart nor equivalent, and that can change the answer.

    Those are the pairs with the best; and, where the recommended one is another, its pairs with rivals that could turn
    out to be the best's equals as it could itself, as equivalence is asked of all pairs.
    """

    def is_open(i: int, j: int) -> bool:
        return not (_beats(evidence, i, j) or _beats(evidence, j, i) or _same(evidence, i, j))

    def may_equal(i: int) -> bool:
        return abs(difference(evidence, best, i).estimate) < evidence.rope

    pairs = [(best, i) for i in unbeaten]
    if recommended != best and may_equal(recommended):
        pairs += [(recommended, i) for i in unbeaten if i != recommended and may_equal(i)]
    return [pair for pair in pairs if is_open(*pair)]


def _simplicity(evidence: Evidence, i: int, order: Sequence[str]) -> tuple[int, str]:
    family = evidence.finalists[i].family
    return (order.index(family) if family in order else len(order), family)


def has_learned(evidence: Evidence, i: int) -> bool:
    """Whether a finalist's test mIoU beats a constant answer by more than `LEARNED`."""
    return evidence.finalists[i].miou.estimate > evidence.constant_miou + LEARNED


def _troubled(evidence: Evidence, i: int) -> bool:
    return evidence.finalists[i].collapses > 0 or not has_learned(evidence, i)


def _simplest(evidence: Evidence, among: Sequence[int], order: Sequence[str]) -> int:
    def rank(i: int) -> tuple[bool, bool, tuple[int, str]]:
        return not has_learned(evidence, i), _troubled(evidence, i), _simplicity(evidence, i, order)

    return min(among, key=rank)


def _others(evidence: Evidence, best: int) -> list[int]:
    return [i for i in range(len(evidence.finalists)) if i != best]


def _baseline_gain(evidence: Evidence) -> float:
    return 0.0 if evidence.baseline is None else evidence.finalists[evidence.baseline].still_rising


# --- The sentences ------------------------------------------------------------------------------------------


def _name(evidence: Evidence, i: int) -> str:
    return evidence.finalists[i].family


def _names(evidence: Evidence, indices: Iterable[int]) -> str:
    return listed([_name(evidence, i) for i in indices])


def _in_words(gap: Interval) -> str:
    return minus(f"{gap.estimate:+.3f} mIoU (95 % interval {gap.low:+.3f} to {gap.high:+.3f})")


def _nothing_learned(evidence: Evidence, eligible: Sequence[int]) -> Decision:
    if eligible:
        best = max((evidence.finalists[i] for i in eligible), key=lambda f: f.miou.estimate)
        reasons = [
            f"No finalist beats a constant answer ({evidence.constant_miou:.3f}) at this budget: nothing was learned. "
            f"The highest test mIoU is {best.family}'s, {best.miou.estimate:.3f}; more than {LEARNED:g} above the "
            "constant answer is asked for.",
            *_collapsed(evidence),
        ]
    else:
        everyone = _names(evidence, range(len(evidence.finalists)))
        constant = f", which reads {evidence.constant_miou:.3f} mIoU" if evidence.test_pictures else ""
        reasons = [
            f"Every confirmation training of {everyone} collapsed (diverged, or no better than a constant answer"
            f"{constant}), so that nothing can be recommended."
        ]
    return Decision(
        Verdict.NONE,
        None,
        False,
        tuple(reasons),
        ("Train longer (`--steps`, `--confirm-steps`), and check that pictures and masks belong together.",),
    )


def _nothing_compared(evidence: Evidence) -> Decision:
    finalist = evidence.finalists[0]
    return Decision(
        Verdict.UNDECIDED,
        0,
        False,
        (
            f"Only {finalist.family} was confirmed ({finalist.miou.estimate:.3f} test mIoU), so that nothing was "
            "compared and no claim about the choice of loss can be made.",
            *_collapsed(evidence),
        ),
        ("Search at least two families, or resume the study so that the baseline is confirmed too.",),
        best=0,
    )


def _beating(evidence: Evidence, best: int, rival: int) -> str:
    gap = difference(evidence, best, rival)
    return (
        f"{_name(evidence, best)} is better than {_name(evidence, rival)} by {_in_words(gap)}: the interval lies above "
        f"0 and the estimate is at least the region of practical equivalence, {evidence.rope:g}."
    )


def _equivalence(evidence: Evidence, left: Sequence[int], recommended: int) -> list[str]:
    gaps = [difference(evidence, i, j) for i, j in combinations(left, 2)]
    widest = max(max(abs(gap.low), abs(gap.high)) for gap in gaps)
    return [
        f"{_names(evidence, left)} are practically equivalent: every paired 95 % interval lies within "
        f"± {evidence.rope:g} mIoU (the farthest end is at {widest:.3f}).",
        f"{_name(evidence, recommended)} is the simplest of them.",
    ]


def _doubt(evidence: Evidence, best: int, rival: int) -> str:
    """Why best does not beat this rival."""
    gap, rope = difference(evidence, best, rival), evidence.rope
    pair = f"{_name(evidence, best)} against {_name(evidence, rival)}: {_in_words(gap)}"
    common = set(evidence.finalists[best].seeds) & set(evidence.finalists[rival].seeds)
    if len(common) < 2:
        return (
            f"{_name(evidence, best)} against {_name(evidence, rival)}: {gap.estimate:+.3f} mIoU from {len(common)} "
            "common seed(s); how much another seed would change it cannot be estimated from fewer than 2."
        )
    if evidence.test_pictures < 2:
        return f"{pair}: with {evidence.test_pictures} test picture(s), chance cannot be told from merit."
    if gap.low > 0:
        return f"{pair}: better, but by less than the region of practical equivalence, {rope:g}."
    if _same(evidence, best, rival):
        return f"{pair}: equivalent within ± {rope:g}, but not all that are left are equivalent to each other."
    return (
        f"{pair}: the interval contains 0 and reaches beyond ± {rope:g}: neither a difference nor equivalence is shown "
        f"(standard error {gap.se_seed:.3f} from seeds, {gap.se_image:.3f} from pictures)."
    )


def _meanwhile(evidence: Evidence, best: int, left: Sequence[int], recommended: int) -> str:
    name = _name(evidence, recommended)
    if len(left) == 1:
        return f"{name} is recommended meanwhile: it is the only finalist left whose trainings did not all collapse."
    skipped = [i for i in left if _troubled(evidence, i)]
    why = (
        f"the simplest of {_names(evidence, left)}, of which none is shown to be better than the others by "
        f"{evidence.rope:g} mIoU or more"
    )
    if recommended != best:
        why += f" ({_name(evidence, best)} reads highest)"
    if skipped and not _troubled(evidence, recommended):
        why += f" (passing over {_names(evidence, skipped)}: a training collapsed, or no better than a constant answer)"
    return f"{name} is recommended meanwhile: {why}."


def _still_rising(evidence: Evidence, rising: float, provisional: bool) -> str:
    assert evidence.baseline is not None  # without a baseline nothing of it can rise
    end = (
        "the verdict is provisional: it holds at this budget." if provisional else "the gap may change with more steps."
    )
    return (
        f"The baseline {_name(evidence, evidence.baseline)} still gained {rising:.3f} validation mIoU over the last "
        f"quarter of its steps, more than {evidence.rope:g}; {end}"
    )


def _collapsed(evidence: Evidence) -> list[str]:
    return [
        f"{f.collapses} of {len(f.seeds)} confirmation trainings of {f.family} collapsed (diverged, or no better than "
        "a constant answer)."
        for f in evidence.finalists
        if f.collapses
    ]
