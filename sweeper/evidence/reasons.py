"""The sentences of a verdict, each with its numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

from scipy.special import betaincinv

from sweeper.core.records import Evidence, FinalistEvidence, Interval
from sweeper.core.text import count, listed, minus
from sweeper.evidence.decision_rule import NEAR, Ground, Step, comparison, difference, same, units
from sweeper.evidence.interim_analyses import common_seeds, level_of

SMALL_ERROR = 5e-4
"""A standard error below this is printed as 0.000."""


def name(evidence: Evidence, i: int) -> str:
    """The family of a finalist."""
    return evidence.finalists[i].family


def names(evidence: Evidence, indices: Iterable[int]) -> str:
    """Their families, listed."""
    return listed([name(evidence, i) for i in indices])


def percent(level: float) -> str:
    """`95 %`, `98.5 %`."""
    return f"{100 * level:.3g} %"


def _in_words(evidence: Evidence, first: int, second: int) -> str:
    gap, level = difference(evidence, first, second), percent(level_of(evidence, first, second))
    return minus(f"{gap.estimate:+.3f} mIoU ({level} interval {gap.low:+.3f} to {gap.high:+.3f})")


def analysis_taken(evidence: Evidence) -> list[str]:
    """Which of several planned interim analyses this is, and what its intervals promise."""
    if len(evidence.looks) < 2:
        return []
    levels = listed([percent(1 - analysis.error) for analysis in evidence.looks])
    return [
        f"This is interim analysis {evidence.look + 1} of at most {len(evidence.looks)}, at "
        f"{evidence.looks[evidence.look].seeds} seeds. Differences are judged at {levels}, one after the other, "
        "so that all interim analyses together err in at most "
        f"{percent(sum(analysis.spent or analysis.error for analysis in evidence.looks))} of sweeps."
    ]


def beating(evidence: Evidence, best: int, rival: int) -> str:
    """That best beats this rival, and by how much."""
    return (
        f"{name(evidence, best)} is better than {name(evidence, rival)} by {_in_words(evidence, best, rival)}: the "
        f"interval lies above 0 and the estimate is at least the region of practical equivalence, {evidence.rope:g}."
    )


def equivalence(evidence: Evidence, left: Sequence[int]) -> list[str]:
    """That all that are left are equivalent."""
    pairs = list(combinations(left, 2))
    levels = {percent(level_of(evidence, i, j)) for i, j in pairs}
    widest = max(max(abs((c := comparison(evidence, i, j)).floor), abs(c.ceiling)) for i, j in pairs)
    return [
        f"{names(evidence, left)} are practically equivalent: every paired {'–'.join(sorted(levels))} interval lies "
        f"within ± {evidence.rope:g} mIoU (the farthest end is at {widest:.3f})."
    ]


def safety(evidence: Evidence, chosen: int, rivals: Sequence[int]) -> str:
    """That none of the others that may be the best is better by more than the ROPE."""
    leads = [
        minus(f"{name(evidence, g)} {difference(evidence, g, chosen).estimate:+.3f}, at most {ceiling:+.3f}")
        for g in rivals
        if (ceiling := comparison(evidence, g, chosen).ceiling) is not None
    ]
    return (
        f"{name(evidence, chosen)} is a safe choice: no finalist is better by more than {evidence.rope:g} mIoU "
        f"(lead over it: {'; '.join(leads)})."
    )


def probable(evidence: Evidence, chosen: int, sure: float) -> str:
    """What the named one can cost, and how probable that is; empty where it cannot be told."""
    regret = evidence.finalists[chosen].regret
    if regret is None:
        return ""
    cost = (
        f"{name(evidence, chosen)} costs at most {regret.bound:.3f} mIoU against the best finalist, with a "
        "probability of 95 %"
    )
    within = "more than 99 %" if regret.within_rope > 0.99 else f"{100 * regret.within_rope:.0f} %"
    if regret.within_rope >= sure:
        return f"{cost}, and at most {evidence.rope:g} with one of {within}: probable, though no interval shows it."
    return f"{cost}, and at most {evidence.rope:g} with one of {within}, where {percent(sure)} is asked for."


_GROUNDS: dict[Step, str] = {
    "learned": "it learned more than a constant answer",
    "regret": f"its expected cost is within {NEAR:g} mIoU of the least",
    "collapse": "none of its trainings collapsed",
    "edge": "its learning rate is not at the edge of the searched range",
    "simplicity": "it is the simplest of what is left",
}


def named(evidence: Evidence, among: Sequence[int], chosen: int, grounds: Sequence[Ground]) -> str:
    """Why this one is named of several that may be the best; empty where it is the only one."""
    if len(among) < 2:
        return ""
    return f"Of {names(evidence, among)}, {name(evidence, chosen)} is named: {why_named(evidence, chosen, grounds)}."


def why_named(evidence: Evidence, chosen: int, grounds: Sequence[Ground]) -> str:
    """The grounds, in their order: `its expected cost is … and it is the simplest of what is left`."""
    return listed([_ground(evidence, chosen, ground, first=ground == grounds[0]) for ground in grounds])


def _ground(evidence: Evidence, chosen: int, ground: Ground, *, first: bool) -> str:
    finalists, rivals = evidence.finalists, [i for i in ground.among if i != chosen]
    if ground.step == "plain":
        highest = all(finalists[chosen].miou_at_default > finalists[i].miou_at_default for i in rivals)
        where = " at the plain operating point"
    elif ground.step == "regret" and any(finalists[i].regret is None for i in ground.among):
        highest = all(difference(evidence, chosen, i).estimate > 0 for i in rivals)
        where = ""
    else:
        return _GROUNDS[ground.step]
    reads = "it reads highest" if highest else f"it reads within {evidence.rope:g} of the highest"
    return f"{reads}{'' if first else ' of what is left'}{where}"


def unsound(evidence: Evidence, best: int) -> str:
    """That a loss which collapsed is no clear winner."""
    finalist = evidence.finalists[best]
    return (
        f"{finalist.family} is better than every rival when it trains, but {finalist.collapses} of its "
        f"{finalist.trainings} confirmation trainings and {finalist.collapses_in_search} before them collapsed: a "
        "clear winner never collapses."
    )


def doubt(evidence: Evidence, best: int, rival: int) -> str:
    """Why best does not beat this rival."""
    gap, rope = difference(evidence, best, rival), evidence.rope
    pair = f"{name(evidence, best)} against {name(evidence, rival)}: {_in_words(evidence, best, rival)}"
    common = common_seeds(evidence, best, rival)
    if common < 2:
        return (
            f"{name(evidence, best)} against {name(evidence, rival)}: {gap.estimate:+.3f} mIoU from "
            f"{count(common, 'common seed')}; how much another seed would change it cannot be estimated from fewer "
            "than 2."
        )
    if units(evidence) < 2:
        return f"{pair}: with {count(units(evidence), 'independent test image')}, chance cannot be told from merit."
    if gap.low > 0:
        return f"{pair}: better, but by less than the region of practical equivalence, {rope:g}."
    if same(evidence, best, rival):
        return f"{pair}: equivalent within ± {rope:g}, but not all that are left are equivalent to each other."
    return (
        f"{pair}: the interval contains 0 and reaches beyond ± {rope:g}: neither a difference nor equivalence is shown "
        f"(standard error {_sources(gap)})."
    )


def _sources(gap: Interval) -> str:
    """What the seeds and the images add to a standard error. An estimated variance that came out as 0 is no 0."""
    if gap.se_image < SMALL_ERROR:
        return f"{gap.se_seed:.3f} from seeds; from images too little to be told from it"
    if gap.se_seed < SMALL_ERROR:
        return f"{gap.se_image:.3f} from images; from seeds too little to be told from it"
    return f"{gap.se_seed:.3f} from seeds, {gap.se_image:.3f} from images"


def still_rising(evidence: Evidence, rising: float, provisional: bool) -> str:
    """That the baseline still improved at the end."""
    assert evidence.baseline is not None  # without a baseline nothing of it can rise
    end = (
        "the verdict is provisional: it holds at this budget." if provisional else "the gap may change with more steps."
    )
    return (
        f"The baseline {name(evidence, evidence.baseline)} still gained {rising:.3f} validation mIoU over the last "
        f"quarter of its steps, more than {evidence.rope:g}; {end}"
    )


def collapsed(evidence: Evidence) -> list[str]:
    """How many trainings of whom collapsed, how often that may happen, and what it reads where it trains."""
    found = []
    for f in evidence.finalists:
        if f.collapses:
            share, (low, high) = f"{f.collapses} of {f.trainings}", collapse_rate(f)
            trained = ""
            if f.miou_when_trained is not None:
                trained = f"; where it trains it reads {f.miou_when_trained:.3f} test mIoU"
            found.append(
                f"{share} confirmation trainings of {f.family} collapsed (diverged, or no better than a constant "
                f"answer): with those before, a rate of {100 * low:.0f} to {100 * high:.0f} % (95 % interval){trained}."
            )
    return found


def collapse_rate(finalist: FinalistEvidence) -> tuple[float, float]:
    """Exact 95 % interval of how often a training of this configuration collapses (Clopper & Pearson 1934), in 0–1.

    From the confirmation and the trainings before it; (0, 1) where there is none.
    """
    of = finalist.trainings + finalist.trainings_in_search
    bad = finalist.collapses + finalist.collapses_in_search
    low = float(betaincinv(bad, of - bad + 1, 0.025)) if bad else 0.0
    high = float(betaincinv(bad + 1, of - bad, 0.975)) if bad < of else 1.0
    return low, high
