"""The action: change from cross-entropy only on evidence, else keep it; and the sentence that states it.

- change: at least one finalist that learned *beats* tuned cross-entropy: at an interim analysis the interval of its
  gain was above 0, and the estimate was at least the margin. `choose_preferred` recommends one of those that no other
  finalist beats.
- keep: otherwise. Cross-entropy is recommended; the verdict says how sure it is that this costs at most the margin.

There is no action where cross-entropy was not confirmed, learned nothing, or collapsed while another finalist did not.
"""

from __future__ import annotations

from collections.abc import Sequence

from sweeper.core.records import Action, Contest, Evidence, LongerLook, Strength, Verdict
from sweeper.core.text import format_upper_bound
from sweeper.evidence.interim_analyses import DECIDING_SEEDS, count_common_seeds
from sweeper.evidence.reasons import format_bound_condition, format_difference, format_score_difference, get_family
from sweeper.evidence.verdict_predicates import (
    count_units,
    format_units,
    get_comparison,
    get_difference,
    has_beaten,
    has_enough_seeds,
    has_learned,
    is_costly,
    is_sound,
    was_dropped,
)
from sweeper.evidence.what_would_settle import suggest_for_action


def choose_action(
    evidence: Contest, standing: Sequence[int], unbeaten: Sequence[int]
) -> tuple[Action | None, Sequence[int]]:
    """Return the action by the rule above, and the finalists that may then be recommended.

    There are at least two finalists. `standing` are the eligible ones that no eligible one beats; `unbeaten` are the
    best and the eligible ones that it does not beat.
    """
    base = evidence.baseline
    if base is None:
        return None, unbeaten
    learned = [i for i in range(len(evidence.finalists)) if i != base and has_learned(evidence, i)]
    gaining, better = [i for i in learned if has_beaten(evidence, i, base)], [i for i in learned if i in standing]
    if gaining and better:
        return "change", [i for i in better if i in gaining] or better
    kept = base in unbeaten and has_learned(evidence, base)
    if kept and (is_sound(evidence, base) or not any(is_sound(evidence, i) for i in unbeaten)):
        return "keep", [base]
    return None, unbeaten


def find_best_other(evidence: Evidence) -> int | None:
    """Return the most promising finalist other than cross-entropy: first those whose gain may exceed the margin.

    Finalists with too few seeds for a bound rank with those whose gain is within the margin; within a rank the highest
    estimate comes first. None without cross-entropy, or if all trainings of every other finalist collapsed.
    """
    base = evidence.baseline
    others = [i for i, f in enumerate(evidence.finalists) if i != base and f.collapses < f.trainings]
    if base is None or not others:
        return None

    def rank(i: int) -> tuple[bool, float, int]:
        is_open = has_enough_seeds(evidence, i, base) and may_gain(evidence, i, base)
        return is_open, get_difference(evidence, i, base).estimate, -i

    return max(others, key=rank)


def has_highest_gain(evidence: Evidence, other: int, base: int) -> bool:
    """Return whether no other finalist has a higher estimated gain over cross-entropy."""
    gain = get_difference(evidence, other, base).estimate
    return all(get_difference(evidence, i, base).estimate <= gain for i in range(len(evidence.finalists)) if i != base)


def may_gain(evidence: Contest, i: int, base: int) -> bool:
    """Return whether a finalist may gain more than the margin over cross-entropy."""
    return not has_enough_seeds(evidence, i, base) or get_comparison(evidence, i, base).one_sided > evidence.margin


def list_open_rivals(evidence: Contest, base: int) -> list[int]:
    """Return the finalists whose comparison with cross-entropy settles the action while it is kept.

    It is the one with the highest gain if that is at least the margin, as one established gain is enough; else all that
    may gain more. Those that the race gave too few seeds for an interval can hardly change the action.
    """
    rivals = [
        i
        for i in range(len(evidence.finalists))
        if i != base and may_gain(evidence, i, base) and not was_dropped(evidence, base, i)
    ]
    gains = {i: get_difference(evidence, i, base).estimate for i in rivals}
    best = max(rivals, key=gains.__getitem__, default=base)
    return [best] if rivals and gains[best] >= evidence.margin else rivals


def format_headline(
    evidence: Evidence, action: Action | None, recommended: int, verdict: Verdict, strength: Strength
) -> str:
    """Return the action in a sentence, with its numbers; "" where there is none."""
    base = evidence.baseline
    if action is None or base is None:
        return ""
    if action == "keep":
        return _format_keep(evidence, base, verdict, strength)
    gain = get_difference(evidence, recommended, base).estimate
    head = f"Change to {get_family(evidence, recommended)}: {_format_gain(evidence, gain)} {evidence.scale.score}"
    return f"{head}{_format_larger_gain(evidence, recommended, base)}."


def _format_larger_gain(evidence: Evidence, recommended: int, base: int) -> str:
    """Return which loss may gain more than the recommended one, where that is expected to cost more than the margin."""
    if not is_costly(evidence, recommended):
        return ""
    others = (i for i in range(len(evidence.finalists)) if not has_beaten(evidence, recommended, i))
    best = max(others, key=lambda i: get_difference(evidence, i, recommended).estimate if i != recommended else 0.0)
    if best == recommended:
        return ""
    gain = _format_gain(evidence, get_difference(evidence, best, base).estimate)
    return f"; {get_family(evidence, best)} may gain more ({gain}, not established)"


def add_longer_look(head: str, evidence: Evidence, action: Action | None, look: LongerLook) -> str:
    """Return the headline with what more steps change about the action, if that is established."""
    gap, times = look.gaps[0], f"At {look.times} times the steps"
    if head and look.catches_up:
        return f"{head} Keep cross-entropy if you train long."
    is_over_base = evidence.baseline is not None and gap.second == evidence.finalists[evidence.baseline].family
    after = gap.after.estimate
    if action == "change" and is_over_base and gap.trend in ("grows", "shrinks"):
        return f"{head} {times} it {gap.trend} to {_format_gain(evidence, after)}."
    if action == "keep" and is_over_base and gap.trend == "grows" and gap.after.low > 0 and after >= evidence.margin:
        return f"{head} {times} {gap.first} gains {_format_gain(evidence, after)}."
    return head


def _format_gain(evidence: Evidence, gain: float) -> str:
    """Format a gain in the score's unit, with two decimals of mIoU from 0.1 on, else three."""
    scale = evidence.scale
    digits = max(0, scale.digits - (abs(gain) >= 10 * scale.hundredth))
    return f"{gain:+.{digits}f}"


def _format_keep(evidence: Evidence, base: int, verdict: Verdict, strength: Strength) -> str:
    other = find_best_other(evidence)
    if other is None:
        return "Keep cross-entropy: all that was tried is cross-entropy here."
    if strength == "open" and (doubt := _format_doubt(evidence, other, base)):
        return f"Keep cross-entropy for now: {doubt}."
    plain = evidence.finalists[base].vs_plain
    if plain is not None and plain.low > 0 and plain.estimate >= evidence.margin / 2:
        point = "threshold" if len(evidence.classes) == 2 else "τ"
        return f"Keep cross-entropy; tune its {point} ({format_score_difference(evidence, plain.estimate)})."
    if verdict is Verdict.CLEAR_WINNER:
        return "Keep cross-entropy: it beats every other finalist."
    sure = "probably no" if strength == "probable" else "no"
    most = f"{evidence.margin:g} {evidence.scale.score}{format_bound_condition(evidence, evidence.finalists[base])}"
    return f"Keep cross-entropy: {sure} other finalist gains more than {most}."


def _format_doubt(evidence: Evidence, other: int, base: int) -> str:
    """Return what `other`, the best of the others, may gain, and what would settle it; "" if no loss may gain.

    Where only losses that were dropped before they had a bound may gain, return what cross-entropy may cost.
    """
    margin, digits, regret = evidence.margin, evidence.scale.digits, evidence.finalists[base].regret
    if not may_gain(evidence, other, base):
        if regret is None or regret.bound <= margin:
            return ""
        limit = format_bound_condition(evidence, evidence.finalists[base])
        return f"it may cost up to {format_upper_bound(regret.bound, margin, digits)}{limit}"
    if count_units(evidence) < 2:
        return f"{format_units(evidence)} shows nothing"
    if count_common_seeds(evidence, other, base) < DECIDING_SEEDS:
        return f"at least {DECIDING_SEEDS} common seeds are needed"
    most = format_upper_bound(get_difference(evidence, other, base).high, margin, digits)
    tail = suggest_for_action(evidence, list_open_rivals(evidence, base), base)
    return f"{get_family(evidence, other)} may gain up to {most}" + (f"; {tail}" if tail else "")


def explain_action(evidence: Evidence, action: Action | None) -> list[str]:
    """Explain why cross-entropy is kept, or why there is no action; [] for a change."""
    base, other = evidence.baseline, find_best_other(evidence)
    if action is None:
        what = "was not confirmed" if base is None else "collapsed or learned nothing"
        return [
            f"Cross-entropy {what}: the recommendation is based on the comparison of the other losses, not on a gain "
            "over it."
        ]
    if action == "change" or base is None or other is None:
        return []
    looks = "looks best" if has_highest_gain(evidence, other, base) else "is the least settled"
    return [
        f"Cross-entropy is kept: no finalist has an established gain of {evidence.margin:g} {evidence.scale.score}; "
        f"of the others {get_family(evidence, other)} {looks}, {format_difference(evidence, other, base)}."
    ]
