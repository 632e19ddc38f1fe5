"""The sentences of a verdict, each with its numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

from sweeper.evidence.looks import common_seeds, level_of
from sweeper.evidence.rule import against, difference, faults, same, troubled, units
from sweeper.records import Evidence
from sweeper.text import listed, minus


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


def look_taken(evidence: Evidence) -> list[str]:
    """Which of several planned looks this is, and what its intervals promise."""
    if len(evidence.looks) < 2:
        return []
    levels = listed([percent(1 - look.error) for look in evidence.looks])
    return [
        f"This is look {evidence.look + 1} of at most {len(evidence.looks)}, at "
        f"{evidence.looks[evidence.look].seeds} seeds. Differences are judged at {levels}, look by look, so that all "
        f"looks together err in at most {percent(sum(look.spent or look.error for look in evidence.looks))} of sweeps."
    ]


def beating(evidence: Evidence, best: int, rival: int) -> str:
    """That best beats this rival, and by how much."""
    return (
        f"{name(evidence, best)} is better than {name(evidence, rival)} by {_in_words(evidence, best, rival)}: the "
        f"interval lies above 0 and the estimate is at least the region of practical equivalence, {evidence.rope:g}."
    )


def equivalence(evidence: Evidence, left: Sequence[int], recommended: int) -> list[str]:
    """That all that are left are equivalent, and which is the simplest."""
    gaps = [difference(evidence, i, j) for i, j in combinations(left, 2)]
    levels = {percent(level_of(evidence, i, j)) for i, j in combinations(left, 2)}
    widest = max(max(abs(gap.low), abs(gap.high)) for gap in gaps)
    return [
        f"{names(evidence, left)} are practically equivalent: every paired {'–'.join(sorted(levels))} interval lies "
        f"within ± {evidence.rope:g} mIoU (the farthest end is at {widest:.3f}).",
        f"{name(evidence, recommended)} is {simplest(evidence, left, recommended)} of them.",
    ]


def passed_over(evidence: Evidence, among: Sequence[int], chosen: int) -> tuple[list[int], list[int]]:
    """Those that were not asked for their simplicity: as they trained worse than the chosen one; as they read lower."""
    worse = [i for i in among if faults(evidence, i) > faults(evidence, chosen)]
    own = against(evidence, chosen, among)
    return worse, [i for i in among if i not in worse and against(evidence, i, among) > own]


def simplest(evidence: Evidence, among: Sequence[int], chosen: int) -> str:
    """How the chosen one is the simplest: of all, or of those that trained as soundly and read as high."""
    worse, lower = passed_over(evidence, among, chosen)
    how = []
    if worse:
        how.append("beats a constant answer" if troubled(evidence, chosen) else "trained soundly")
    if lower:
        how.append(f"reads within {evidence.rope:g} of the highest{' that did' if worse else ''}")
    if not how:
        return "the simplest"
    alone = len(worse) + len(lower) == len(among) - 1
    return f"the {'only one' if alone else 'simplest'} that {' and '.join(how)}"


def doubt(evidence: Evidence, best: int, rival: int) -> str:
    """Why best does not beat this rival."""
    gap, rope = difference(evidence, best, rival), evidence.rope
    pair = f"{name(evidence, best)} against {name(evidence, rival)}: {_in_words(evidence, best, rival)}"
    common = common_seeds(evidence, best, rival)
    if common < 2:
        return (
            f"{name(evidence, best)} against {name(evidence, rival)}: {gap.estimate:+.3f} mIoU from {common} "
            "common seed(s); how much another seed would change it cannot be estimated from fewer than 2."
        )
    if units(evidence) < 2:
        return f"{pair}: with {units(evidence)} independent test picture(s), chance cannot be told from merit."
    if gap.low > 0:
        return f"{pair}: better, but by less than the region of practical equivalence, {rope:g}."
    if same(evidence, best, rival):
        return f"{pair}: equivalent within ± {rope:g}, but not all that are left are equivalent to each other."
    return (
        f"{pair}: the interval contains 0 and reaches beyond ± {rope:g}: neither a difference nor equivalence is shown "
        f"(standard error {gap.se_seed:.3f} from seeds, {gap.se_image:.3f} from pictures)."
    )


def meanwhile(evidence: Evidence, best: int, left: Sequence[int], recommended: int) -> str:
    """Whom to take while it is undecided, and why."""
    one = name(evidence, recommended)
    if len(left) == 1:
        return f"{one} is recommended meanwhile: it is the only finalist left whose trainings did not all collapse."
    worse, lower = passed_over(evidence, left, recommended)
    why = (
        f"{simplest(evidence, left, recommended)} of {names(evidence, left)}, of which none is shown to be better than "
        f"the others by {evidence.rope:g} mIoU or more"
    )
    if recommended != best:
        why += f" ({name(evidence, best)} reads highest)"
    if worse:
        why += f" (passing over {names(evidence, worse)}: a training collapsed, or no better than a constant answer)"
    if lower:
        why += f" (passing over {names(evidence, lower)}: more than {evidence.rope:g} below the highest)"
    return f"{one} is recommended meanwhile: {why}."


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
    """How many trainings of whom collapsed."""
    return [
        f"{f.collapses} of {f.trainings} confirmation trainings of {f.family} collapsed (diverged, or no better than "
        "a constant answer)."
        for f in evidence.finalists
        if f.collapses
    ]
