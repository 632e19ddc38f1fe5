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
- none: nothing completed, or nothing is eligible.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from sweeper.evidence.settle import what_would_settle
from sweeper.records import Evidence, Interval, Verdict


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
    if not eligible:
        return _nothing_learned(evidence)
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
        reasons.append(_meanwhile(evidence, left, recommended))
    rising = _baseline_gain(evidence)
    provisional = not _is_open(verdict) and rising > evidence.rope
    next_steps = what_would_settle(evidence, _open_pairs(evidence, best, unbeaten)) if _is_open(verdict) else []
    if rising > evidence.rope:
        reasons.append(_still_rising(evidence, rising, provisional))
        next_steps.append("Confirm with more steps (`--confirm-steps`), until the baseline's curve is flat.")
    reasons += _caveats(evidence, recommended)
    return Decision(verdict, recommended, provisional, tuple(reasons), tuple(next_steps))


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


def _open_pairs(evidence: Evidence, best: int, unbeaten: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs among best and those it does not beat that are neither told apart nor equivalent."""
    return [
        (i, j)
        for i, j in combinations([best, *unbeaten], 2)
        if not (_beats(evidence, i, j) or _beats(evidence, j, i) or _same(evidence, i, j))
    ]


def _simplicity(evidence: Evidence, i: int, order: Sequence[str]) -> tuple[int, str]:
    family = evidence.finalists[i].family
    return (order.index(family) if family in order else len(order), family)


def _troubled(evidence: Evidence, i: int) -> bool:
    finalist = evidence.finalists[i]
    return finalist.collapses > 0 or finalist.miou.estimate <= evidence.constant_miou


def _simplest(evidence: Evidence, among: Sequence[int], order: Sequence[str]) -> int:
    return min(among, key=lambda i: (_troubled(evidence, i), *_simplicity(evidence, i, order)))


def _others(evidence: Evidence, best: int) -> list[int]:
    return [i for i in range(len(evidence.finalists)) if i != best]


def _baseline_gain(evidence: Evidence) -> float:
    return 0.0 if evidence.baseline is None else evidence.finalists[evidence.baseline].still_rising


# --- The sentences ------------------------------------------------------------------------------------------


def _name(evidence: Evidence, i: int) -> str:
    return evidence.finalists[i].family


def _names(evidence: Evidence, indices: Iterable[int]) -> str:
    names = [_name(evidence, i) for i in indices]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _in_words(gap: Interval) -> str:
    return f"{gap.estimate:+.3f} mIoU (95 % interval {gap.low:+.3f} to {gap.high:+.3f})"


def _nothing_learned(evidence: Evidence) -> Decision:
    everyone = _names(evidence, range(len(evidence.finalists)))
    return Decision(
        Verdict.NONE,
        None,
        False,
        (
            f"Every confirmation training of {everyone} collapsed (diverged, or no better than a constant answer, "
            f"which reads {evidence.constant_miou:.3f} mIoU), so that nothing can be recommended.",
        ),
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
            *_caveats(evidence, 0),
        ),
        ("Search at least two families, or resume the study so that the baseline is confirmed too.",),
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
        f"{pair}: the interval contains 0 and reaches beyond ± {rope:g}, so that it shows neither a difference nor "
        f"equivalence (standard error {gap.se_seed:.3f} from seeds, {gap.se_image:.3f} from pictures)."
    )


def _meanwhile(evidence: Evidence, left: Sequence[int], recommended: int) -> str:
    if len(left) == 1:
        return (
            f"{_name(evidence, recommended)} is recommended meanwhile: it is the only finalist left whose trainings "
            "did not all collapse."
        )
    skipped = [i for i in left if _troubled(evidence, i)]
    why = f"the simplest of {_names(evidence, left)}, which are not told apart"
    if skipped and not _troubled(evidence, recommended):
        why += f" (passing over {_names(evidence, skipped)}: a training collapsed, or no better than a constant answer)"
    return f"{_name(evidence, recommended)} is recommended meanwhile: {why}."


def _still_rising(evidence: Evidence, rising: float, provisional: bool) -> str:
    assert evidence.baseline is not None  # without a baseline nothing of it can rise
    end = (
        "the verdict is provisional: it holds at this budget." if provisional else "the gap may change with more steps."
    )
    return (
        f"The baseline {_name(evidence, evidence.baseline)} still gained {rising:.3f} validation mIoU over the last "
        f"quarter of its steps, more than {evidence.rope:g}; {end}"
    )


def _caveats(evidence: Evidence, recommended: int) -> list[str]:
    chosen, found = evidence.finalists[recommended], []
    if chosen.miou.estimate <= evidence.constant_miou:
        found.append(
            f"{chosen.family} reads {chosen.miou.estimate:.3f} test mIoU, no better than a constant answer "
            f"({evidence.constant_miou:.3f}): nothing useful was learned at this budget."
        )
    found += [
        f"{f.collapses} of {len(f.seeds)} confirmation trainings of {f.family} collapsed (diverged, or no better than "
        "a constant answer)."
        for f in evidence.finalists
        if f.collapses
    ]
    return found
