"""The sentences of a verdict with their numbers, and its caveats."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

from scipy.special import betaincinv

from sweeper.core.records import Contest, Evidence, FinalistEvidence, Interval
from sweeper.core.text import format_count, format_upper_bound, join_words, replace_minus
from sweeper.evidence.interim_analyses import DECIDING_SEEDS, count_common_seeds, get_joint_level
from sweeper.evidence.intervals import LEVEL
from sweeper.evidence.verdict_predicates import (
    PreferenceGround,
    Step,
    count_units,
    format_units,
    get_comparison,
    get_difference,
    is_equivalent,
    is_probably_safe,
)

FEW_IMAGES = 40
"""With fewer test images (or groups) intervals were found to cover less than their level (bench/verdict.md)."""


def format_score_difference(evidence: Contest, value: float) -> str:
    """Format a difference in the score's own unit, with its sign and the printed number of decimals."""
    return replace_minus(f"{value:+.{evidence.scale.digits}f}")


def get_family(evidence: Contest, i: int) -> str:
    """Return the family of a finalist."""
    return evidence.finalists[i].family


def join_families(evidence: Contest, indices: Iterable[int]) -> str:
    """Join the families of the finalists in words."""
    return join_words([get_family(evidence, i) for i in indices])


def format_percent(level: float) -> str:
    """Format a level, such as `95 %` or `98.5 %`."""
    return f"{100 * level:.3g} %"


def format_difference(evidence: Contest, first: int, second: int) -> str:
    """Format a difference with its interval, whose level is that of all interim analyses together."""
    gap = get_difference(evidence, first, second)
    low, high = format_score_difference(evidence, gap.low), format_score_difference(evidence, gap.high)
    return (
        f"{format_score_difference(evidence, gap.estimate)} {evidence.scale.score} "
        f"({format_percent(get_joint_level(evidence))} interval {low} to {high})"
    )


def explain_win(evidence: Contest, best: int, rival: int) -> str:
    """Explain that the best beats this rival, and by how much."""
    return (
        f"{get_family(evidence, best)} is better than {get_family(evidence, rival)} by "
        f"{format_difference(evidence, best, rival)}: the "
        f"interval is above 0 and the estimate is at least the margin, {evidence.margin:g}."
    )


def explain_equivalence(evidence: Contest, remaining: Sequence[int]) -> list[str]:
    """Explain that all remaining finalists are equivalent."""
    pairs = list(combinations(remaining, 2))
    widest = max(max(abs((c := get_comparison(evidence, i, j)).floor), abs(c.ceiling)) for i, j in pairs)
    at = format_percent(get_joint_level(evidence))
    return [
        f"{join_families(evidence, remaining)} are practically equivalent: every paired {at} "
        f"interval is within ± {evidence.margin:g} {evidence.scale.score} (the farthest end is at "
        f"{widest:.{evidence.scale.digits}f})."
    ]


def explain_safety(evidence: Contest, chosen: int, rivals: Sequence[int]) -> str:
    """Explain that no other finalist that may be the best is better by more than the margin."""
    leads, at = [], format_percent(get_joint_level(evidence))
    for g in rivals:
        gap, most = get_difference(evidence, g, chosen), get_comparison(evidence, g, chosen).one_sided
        bound = f"behind by its {at} interval"
        if gap.high >= 0:  # a one-sided bound below 0 is no lead
            bound = f"at most {format_score_difference(evidence, max(0.0, most))} by a one-sided {at} bound"
        leads.append(f"{get_family(evidence, g)} {format_score_difference(evidence, gap.estimate)}, {bound}")
    return (
        f"{get_family(evidence, chosen)} is a safe choice: no {_name_kind(evidence)} is better by more than "
        f"{evidence.margin:g} {evidence.scale.score} (differences to it: {'; '.join(leads)})."
    )


def explain_cost(evidence: Contest, chosen: int) -> str:
    """Explain what the recommended finalist can cost, and whether that is within the margin; "" if it is unknown."""
    regret = evidence.finalists[chosen].regret
    if regret is None:
        return ""
    sentence = (
        f"{get_family(evidence, chosen)} {format_cost_bound(evidence, chosen)} against the best {_name_kind(evidence)}"
    )
    if is_probably_safe(evidence, chosen):
        return f"{sentence}: likely, but not established."
    return f"{sentence}; the margin is {evidence.margin:g}."


def format_cost_bound(evidence: Contest, chosen: int) -> str:
    """Format the bound of a known regret: `costs at most 0.008 mIoU (with a probability of 95 %)`."""
    regret = evidence.finalists[chosen].regret
    assert regret is not None  # callers have checked that it is known
    bound = format_upper_bound(regret.bound, evidence.margin, evidence.scale.digits)
    limit = format_bound_condition(evidence, evidence.finalists[chosen]) if isinstance(evidence, Evidence) else ""
    return f"costs at most {bound} {evidence.scale.score}{limit} (with a probability of {format_percent(LEVEL)})"


def _name_kind(evidence: Contest) -> str:
    if isinstance(evidence, Evidence):
        return "finalist"
    return "network" if evidence.scope == "images" else "method"


def explain_one_function(evidence: Evidence) -> str:
    """Explain that all tried losses are one function, so that there is no choice."""
    finalist = evidence.finalists[0]
    return (
        f"All that was tried is {finalist.family} on these data: as they were searched, the gradients of "
        f"{join_words(list(finalist.other_names))} are its own, up to a factor. There is nothing to choose between, "
        "and more seeds would not change that."
    )


def explain_choice(evidence: Contest, among: Sequence[int], chosen: int, grounds: Sequence[PreferenceGround]) -> str:
    """Explain why this finalist is recommended of several that may be the best; "" if it is the only one."""
    if len(among) < 2:
        return ""
    why = join_words([_explain_ground(evidence, chosen, ground) for ground in grounds])
    return f"Of {join_families(evidence, among)}, {get_family(evidence, chosen)} is recommended: {why}."


def _explain_ground(evidence: Contest, chosen: int, ground: PreferenceGround) -> str:
    highest = f"it scores within {evidence.margin:g} of the highest"
    least = f"its expected cost is within {ground.near:g} {evidence.scale.score} of the lowest"
    if any(evidence.finalists[i].regret is None for i in ground.among):
        least = highest
    simplest = "it is the simplest of those that remain"
    if not isinstance(evidence, Evidence):
        simplest = "it is the baseline" if chosen == evidence.baseline else "it scores highest of those that remain"
    words: dict[Step, str] = {
        "learned": "it learned more than a constant answer",
        "regret": least,
        "plain": f"{highest} at the plain operating point",
        "collapse": "none of its trainings collapsed",
        "edge": "its learning rate is not at the edge of the searched range",
        "simplicity": simplest,
    }
    return words[ground.step]


def explain_unsound(evidence: Contest, best: int) -> str:
    """Explain that a loss which collapsed is no clear winner."""
    finalist = evidence.finalists[best]
    return (
        f"{finalist.family} is better than every rival when it trains, but {finalist.collapses} of its "
        f"{finalist.trainings} confirmation trainings and {finalist.collapses_in_search} before them collapsed: a "
        "clear winner never collapses."
    )


def explain_doubt(evidence: Contest, best: int, rival: int) -> str:
    """Explain why the best does not beat this rival."""
    gap, margin = get_difference(evidence, best, rival), evidence.margin
    names = f"{get_family(evidence, best)} against {get_family(evidence, rival)}"
    pair = f"{names}: {format_difference(evidence, best, rival)}"
    common = count_common_seeds(evidence, best, rival)
    seeds = format_count(int(common), "common seed" if evidence.paired else "seed") if common < DECIDING_SEEDS else ""
    seeds += "" if evidence.paired else " of one"
    if common < 2:
        return (
            f"{get_family(evidence, best)} against {get_family(evidence, rival)}: "
            f"{format_score_difference(evidence, gap.estimate)} {evidence.scale.score} from {seeds}; how much another "
            "seed would change it cannot be estimated from fewer than 2."
        )
    if count_units(evidence) < 2:
        return f"{pair}: with {format_units(evidence)}, chance cannot be separated from merit."
    if common < DECIDING_SEEDS:
        return f"{pair}: only {seeds}; at least {DECIDING_SEEDS} are needed."
    if gap.low > 0:
        less = f"better, but by less than the margin, {margin:g}"
        luck = f"not enough, as several are compared with {get_family(evidence, rival)} and one may score so by luck"
        return f"{pair}: {less if gap.estimate < margin else luck}."
    if is_equivalent(evidence, best, rival):
        return f"{pair}: equivalent within ± {margin:g}, but not all that remain are equivalent to each other."
    return (
        f"{pair}: the interval contains 0 and reaches beyond ± {margin:g}: neither a difference nor equivalence is "
        f"established (standard error {_format_error_sources(evidence, gap)})."
    )


def _format_error_sources(evidence: Contest, gap: Interval) -> str:
    """Format the parts of a standard error from seeds and from images, and whether the latter was cut off at 0."""
    seeds, images = (f"{error:.{evidence.scale.digits}f}" for error in (gap.se_seed, gap.se_image))
    printed = 0.5 * 10.0**-evidence.scale.digits
    if evidence.scope != "both":
        return f"{seeds} from seeds" if evidence.scope == "trainings" else f"{images} from images"
    if gap.se_image == 0:
        return f"{seeds} from seeds; the part of the images cannot be separated from it"
    if gap.se_image < printed:
        return f"{seeds} from seeds, hardly anything from images"
    if gap.se_seed < printed:
        return f"{images} from images, hardly anything from seeds"
    return f"{seeds} from seeds, {images} from images"


AT_THIS_BUDGET = (
    "; the gap may change with more steps.",
    "; the verdict is provisional: it holds at this budget.",
)
"""End of a reason that a longer look replaces."""


def explain_still_rising(evidence: Evidence, rising: float, provisional: bool) -> str:
    """Explain that the baseline was still improving at its end."""
    assert evidence.baseline is not None  # a missing baseline cannot rise
    return (
        f"The baseline {get_family(evidence, evidence.baseline)} still gained {rising:.3f} validation "
        f"{evidence.scale.score} "
        f"over the last quarter of its steps, more than {evidence.margin:g}{AT_THIS_BUDGET[provisional]}"
    )


def explain_collapses(evidence: Evidence) -> list[str]:
    """Explain how many trainings of which losses collapsed, how often that may happen, and the scores of the others."""
    sentences = []
    for f in evidence.finalists:
        if f.collapses + f.collapses_in_search:
            low, high = compute_collapse_rate(f)
            before = f" and {f.collapses_in_search} before them" if f.collapses_in_search else ""
            trained = ""
            if f.miou_when_trained is not None:
                trained = f"; where it trains it scores {f.miou_when_trained:.3f} test mIoU"
            sentences.append(
                f"{f.collapses} of {f.trainings} confirmation trainings of {f.family}{before} collapsed (diverged, or "
                f"no better than a constant answer): with those before, a rate of {100 * low:.0f} to {100 * high:.0f} "
                f"% (95 % interval){trained}."
            )
    return sentences


def list_missed_classes(evidence: Evidence) -> list[tuple[str, str]]:
    """List each class that some but not all confirmation trainings never predict, with how many of which losses.

    Collapsed trainings do not count: `explain_collapses` has them.
    """
    trainings, listed = sum(f.trainings - f.collapses for f in evidence.finalists), []
    for name in evidence.classes:
        missing = [(f, n) for f in evidence.finalists if (n := f.missed_classes.get(name, 0))]
        if missing and sum(n for _, n in missing) < trainings:
            who = join_words([f"{n} of {f.trainings} trainings of {f.family}" for f, n in missing])
            listed.append((name, who))
    return listed


def format_bound_condition(evidence: Evidence, finalist: FinalistEvidence) -> str:
    """Return the condition on a bound for a loss that predicts a class on some seeds only; "" if it predicts all.

    Differences between losses on the other seeds are as large as the class is, and few of them were seen.
    """
    names = [
        name
        for name in evidence.classes
        if 0 < finalist.missed_classes.get(name, 0) < finalist.trainings - finalist.collapses
    ]
    return f" in trainings that predict {join_words(names)}" if names else ""


def compute_collapse_rate(finalist: FinalistEvidence) -> tuple[float, float]:
    """Compute the exact 95 % interval of a configuration's collapse rate, 0–1 (Clopper & Pearson 1934).

    It counts the confirmation and the trainings before it; (0, 1) where there is none.
    """
    trainings = finalist.trainings + finalist.trainings_in_search
    bad = finalist.collapses + finalist.collapses_in_search
    low = float(betaincinv(bad, trainings - bad + 1, 0.025)) if bad else 0.0
    high = float(betaincinv(bad + 1, trainings - bad, 0.975)) if bad < trainings else 1.0
    return low, high


def list_evidence_caveats(evidence: Contest) -> tuple[str, ...]:
    """List the caveats of these intervals, in sentences; () if there are none."""
    caveats = []
    if 0 < count_units(evidence) < FEW_IMAGES:
        what = "test images" if evidence.test_groups is None else "groups of test images"
        caveats.append(
            f"{count_units(evidence):g} {what}, fewer than {FEW_IMAGES}: intervals from so few are themselves "
            "uncertain, and if single images weigh much, their real coverage is below the stated level."
        )
    if evidence.test_groups is not None and evidence.few_groups is None:
        caveats.append(
            f"The {evidence.test_images:,} test images come in {evidence.test_groups:,} groups of related ones. "
            "The intervals take a group as one image."
        )
    if evidence.few_groups is not None:
        groups = format_count(evidence.few_groups, "group")
        caveats.append(
            f"The {evidence.test_images:,} test images come in only {groups} of related ones. The intervals take a "
            "group as one image, so that they are wide."
        )
    if not isinstance(evidence, Evidence):
        return tuple(caveats)
    if evidence.scarce:
        unit = "image" if evidence.test_groups is None else "group"
        where = join_words([f"{name} ({format_count(images, unit)})" for name, images in evidence.scarce])
        caveats.append(
            f"Classes that occur in fewer than 5 test {unit}s: {where}. The intervals cannot know how another {unit} "
            "of such a class would be answered."
        )
    sound = [f for f in evidence.finalists if f.seeds and f.collapses + f.collapses_in_search == 0]
    if sound:
        least = min(f.trainings + f.trainings_in_search for f in sound)
        high = max(compute_collapse_rate(f)[1] for f in sound)
        caveats.append(
            f"{join_words([f.family for f in sound])} never collapsed, in {least} or more trainings with those before "
            f"the confirmation: a rate of 0 to {100 * high:.0f} % (95 % interval), as rare failures may not have "
            "occurred yet."
        )
    return tuple(caveats)
