"""The answer that evidence allows, with what to mind about it: a pure function."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from scipy.special import betaincinv

from sweeper.core.records import (
    Answer,
    Contender,
    Contest,
    Evidence,
    FinalComparison,
    FinalistEvidence,
    Gain,
    Kind,
    NextStep,
    Outcome,
    Remark,
    Use,
)
from sweeper.core.tasks import RULES, compute_median_point, guess_task, is_end_point
from sweeper.evidence.bets import find_bet
from sweeper.evidence.choice import Choice, apply_final_training, choose
from sweeper.evidence.paired_comparisons import SCARCE_IMAGES
from sweeper.evidence.settling import plan_settling
from sweeper.evidence.verdict_predicates import count_units, get_difference, get_gain, has_beaten, is_costly, is_win

FEW_IMAGES = 40
"""With fewer test images (or groups) intervals were found to cover less than their level (bench/answer.md)."""
LITTLE = 0.1
"""Share of the mIoU range from a constant answer to 1 below which a network cannot do the task."""


def make_answer(
    contest: Contest | None,
    order: Sequence[str],
    *,
    present: str | None = None,
    kind: Kind = "loss",
    final: FinalComparison | None = None,
    resume: str | None = None,
) -> tuple[Answer, Choice]:
    """Return the answer that the evidence allows, and the choice behind it.

    Args:
        contest: the evidence; None where nothing completed.
        order: names of losses, simplest first.
        present: the loss that is used now; None = none.
        kind: what is compared.
        final: the final training, if there was one.
        resume: command that continues the trainings; None where there is none.
    """
    choice = choose(contest, order)
    if contest is None:
        return Answer(outcome=Outcome.NONE, kind=kind, present=present), choice
    about: dict[str, Any] = {name: getattr(contest, name) for name in ("margin", "scale", "level")}
    about |= {"kind": kind, "present": present}
    if choice.use is None:
        return Answer(outcome=Outcome.NONE, **about, remarks=tuple(_remark_on_skill(contest))), choice
    choice = apply_final_training(contest, choice, final)
    use, base, gain = choice.use or 0, contest.baseline, None
    if choice.outcome is Outcome.CHANGE and base is not None:
        gain = Gain(**get_gain(contest, use, base).ends)
    answer = Answer(
        outcome=choice.outcome,
        sure=choice.sure,
        **about,
        use=_make_use(contest.finalists[use]),
        gain=gain,
        cost=choice.cost,
        remarks=tuple(_list_remarks(contest, choice, present, final)),
        next=tuple(_list_steps(contest, choice, final, resume)),
    )
    return answer, choice


def _make_use(finalist: Contender) -> Use:
    """Return the loss to use; the operating point is the median over the trainings, so that none decides it alone."""
    if not isinstance(finalist, FinalistEvidence):
        return Use(loss=finalist.family)
    point = compute_median_point(finalist.points) if finalist.points else None
    return Use(loss=finalist.family, params=finalist.params, lr=finalist.lr, point=point)


def make_remark(code: str, **values: Any) -> Remark:
    """Return a remark with the values in its sentence."""
    return Remark(code=code, values=values)


# --- Remarks ------------------------------------------------------------------------------------------------


def _list_remarks(
    contest: Contest, choice: Choice, present: str | None, final: FinalComparison | None
) -> Iterator[Remark]:
    """Yield what to mind, the most important first."""
    yield from _remark_on_final_training(contest, choice, final)
    yield from _remark_on_rivals(contest, choice, present)
    yield from _remark_on_skill(contest)
    if isinstance(contest, Evidence):
        yield from _remark_on_point(contest, choice)
        yield from _remark_on_trainings(contest, choice, final)
    yield from _remark_on_images(contest)


def _remark_on_final_training(contest: Contest, choice: Choice, final: FinalComparison | None) -> Iterator[Remark]:
    """Yield what the final training shows: the gain of a change, why there is none, or a gain that only it shows."""
    if final is None or contest.baseline is None:
        return
    used = contest.finalists[choice.use or 0].family
    values = {"loss": final.first, "seeds": final.seeds, "steps": final.steps}
    if choice.faded is not None:
        yield make_remark("FADED", **values, before=final.before.estimate, **final.after.ends)
    elif final.second == contest.finalists[contest.baseline].family:
        if choice.outcome is Outcome.CHANGE and final.first == used:
            yield make_remark("FINAL", **values, **final.after.ends)
        elif choice.outcome is Outcome.KEEP and is_win(final.after, contest.margin):
            yield make_remark("LATER", **values, **final.after.ends)


def _remark_on_rivals(contest: Contest, choice: Choice, present: str | None) -> Iterator[Remark]:
    """Yield how the used loss compares with the others: whether one may gain more, or there is none."""
    base, use, finalists = contest.baseline, choice.use or 0, contest.finalists
    others = [i for i in range(len(finalists)) if i != use]
    if not others:
        names = finalists[use].other_names
        yield make_remark("ONE_FUNCTION", names=names) if names else make_remark("ALONE")
    if present is not None and base is None:
        yield make_remark("NO_PRESENT", loss=present)
    elif base is not None and choice.outcome is Outcome.TAKE:
        yield make_remark("FAILED_PRESENT")
    if (bet := find_bet(contest, choice)) is not None:
        yield make_remark("BET", loss=finalists[bet.finalist].family, odds=bet.odds, estimate=bet.gain)
    if choice.outcome is Outcome.TAKE and others and all(has_beaten(contest, use, i) for i in others):
        nearest = min(others, key=lambda i: get_difference(contest, use, i).estimate)
        gap = get_difference(contest, use, nearest)
        yield make_remark("WINS", loss=finalists[nearest].family, **gap.ends)
    if choice.outcome is Outcome.CHANGE and base is not None and is_costly(contest, use):
        open_ = [i for i in others if not has_beaten(contest, use, i)]
        best = max(open_, key=lambda i: get_difference(contest, i, use).estimate, default=use)
        if best != use and get_difference(contest, best, use).estimate > 0:
            gain = get_difference(contest, best, base)
            yield make_remark("MORE", loss=finalists[best].family, **gain.ends)


def _remark_on_point(evidence: Evidence, choice: Choice) -> Iterator[Remark]:
    """Yield what the operating point decides: another loss at the plain one, or a gain of the present loss by it."""
    use = choice.use or 0
    rules = RULES[evidence.task or guess_task(len(evidence.classes))]
    if at_end := tuple(f.family for f in evidence.finalists if any(map(is_end_point, f.points))):
        yield make_remark("POINT_END", losses=at_end)
    if evidence.at_plain:
        plain = evidence.model_copy(update={"comparisons": evidence.at_plain})
        ahead = [i for i in range(len(evidence.finalists)) if i != use and has_beaten(plain, i, use)]
        if ahead:
            best = max(ahead, key=lambda i: get_difference(plain, i, use).estimate)
            gap = get_difference(plain, best, use)
            loss = evidence.finalists[best].family
            yield make_remark("POINT", loss=loss, point=rules.plain_words, **gap.ends)
    tuned = evidence.finalists[use].vs_plain if use == evidence.baseline else None
    if tuned is not None and tuned.low > 0 and tuned.estimate >= evidence.margin / 2:
        yield make_remark("TUNE", point=rules.point_name, **tuned.ends)


def _remark_on_skill(contest: Contest) -> Iterator[Remark]:
    """Yield that no network is much better than a constant answer."""
    constant = contest.constant_miou
    if constant is None:
        return
    skill = max((f.skill for f in contest.finalists if f.skill is not None), default=0.0)
    if skill < LITTLE * (1 - constant):
        yield make_remark("WEAK", best=constant + skill, constant=constant)


def _remark_on_trainings(evidence: Evidence, choice: Choice, final: FinalComparison | None) -> Iterator[Remark]:
    """Yield how often the trainings collapsed, and whether the present loss still gained."""
    for finalist in evidence.finalists:
        if n := finalist.collapses + finalist.collapses_in_search:
            low, high = compute_collapse_rate(finalist)
            trainings = finalist.trainings + finalist.trainings_in_search
            yield make_remark("COLLAPSED", loss=finalist.family, n=n, trainings=trainings, low=low, high=high)
    if evidence.baseline is not None and final is None:
        rising = evidence.finalists[evidence.baseline].still_rising
        if rising > evidence.margin:
            yield make_remark("RISING", gain=rising)
    if evidence.folds is not None:
        yield make_remark("SEEN")


def _remark_on_images(contest: Contest) -> Iterator[Remark]:
    """Yield what too few images, groups of images, or images of a class do to the intervals."""
    groups = contest.few_groups or contest.test_groups
    if groups is not None:
        yield make_remark("GROUPS", images=contest.test_images, groups=groups)
    if 0 < count_units(contest) < FEW_IMAGES and contest.few_groups is None:
        yield make_remark("FEW_IMAGES", images=int(count_units(contest)), needed=FEW_IMAGES)
    if isinstance(contest, Evidence) and contest.scarce:
        yield make_remark("SCARCE", classes=contest.scarce, needed=SCARCE_IMAGES)


def compute_collapse_rate(finalist: FinalistEvidence) -> tuple[float, float]:
    """Compute the exact 95 % interval of a configuration's collapse rate, 0–1 (Clopper & Pearson 1934).

    It counts the confirmation and the trainings before it; (0, 1) where there is none.
    """
    trainings = finalist.trainings + finalist.trainings_in_search
    bad = finalist.collapses + finalist.collapses_in_search
    low = float(betaincinv(bad, trainings - bad + 1, 0.025)) if bad else 0.0
    high = float(betaincinv(bad + 1, trainings - bad, 0.975)) if bad < trainings else 1.0
    return low, high


# --- What to do next ----------------------------------------------------------------------------------------


def _list_steps(
    contest: Contest, choice: Choice, final: FinalComparison | None, resume: str | None
) -> Iterator[NextStep]:
    """Yield what would settle the answer."""
    plan = plan_settling(contest, choice)
    if plan is None:
        return
    losses, units = tuple(contest.finalists[i].family for i in plan.rivals), count_units(contest)
    if plan.seeds is not None:
        values = {"losses": losses, "seeds": plan.seeds, "now": int(plan.now)}
        command = "" if resume is None else f"{resume} --seeds {plan.seeds}"
        yield NextStep(code="SEEDS", values=values, command=command)
    elif plan.images is not None:
        yield NextStep(code="IMAGES", values={"losses": losses, "images": plan.images, "now": int(units)})
    elif units >= 2:
        yield NextStep(code="BOTH", values={"losses": losses})
