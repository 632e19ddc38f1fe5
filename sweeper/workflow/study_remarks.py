"""What a study adds to the answer of its evidence: what to mind about it, and what to do next, with the commands."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence

from sweeper.core.own_metric import resolve_verdict_metric
from sweeper.core.records import (
    Answer,
    Evidence,
    NextStep,
    Outcome,
    Remark,
    Scale,
    Sure,
    SweepRecord,
    Value,
    list_trainers,
)
from sweeper.core.text import capitalise, format_confirm_command, format_study_command, replace_options
from sweeper.data.folds import get_split
from sweeper.data.split_warnings import list_missing_classes
from sweeper.evidence.answer import make_remark
from sweeper.evidence.class_table import list_class_remarks
from sweeper.evidence.document import ClassTable
from sweeper.evidence.settling import count_confirm_trainings
from sweeper.evidence.verdict_predicates import get_difference
from sweeper.fingerprint.imbalance import find_rarest_class
from sweeper.fingerprint.ledger import BASELINE, compute_features, make_weight_parameters, rank_losses, read_ledger
from sweeper.space import find_range_edge
from sweeper.study.budget_ladder import find_unlearned_classes
from sweeper.study.finalist import Finalist

FEW_TRIALS = 3
"""A family with fewer trials was hardly tuned."""


def list_study_remarks(
    sweep: SweepRecord, evidence: Evidence | None, table: ClassTable | None, finalists: Sequence[Finalist]
) -> Iterator[Remark]:
    """Yield what to mind about a study, the most important first; `table` is that of the classes."""
    if not sweep.concluded:
        trained = sum(run.state == "complete" for run in sweep.confirmations)
        values = {"trials": len(sweep.trials), "total": sweep.trials_asked, "trainings": trained}
        yield make_remark("UNFINISHED", **values)
    shares = {one.name: one.pixel_share for one in sweep.profile.classes}
    labelled = None if sweep.profile.overlap is None else 1.0
    yield make_remark("IMBALANCE", **find_rarest_class(shares, labelled)._asdict())
    if evidence is not None and table is not None:
        yield from list_class_remarks(evidence, table)
    elif names := find_unlearned_classes(sweep.trials or sweep.probes, sweep.conditions):
        yield make_remark("UNLEARNED", classes=names)
    yield from _remark_on_similar_sets(sweep, evidence)
    yield from _remark_on_search(sweep, evidence, finalists)
    if sweep.cut:
        yield make_remark("CUT", parts="; ".join(sweep.cut))
    if sweep.conclusions > 1:
        yield make_remark("AGAIN", times=sweep.conclusions)
    if (n := len(list_trainers(sweep))) > 1:
        yield make_remark("VERSIONS", n=n)
    metric = sweep.conditions.recipe.metric
    if resolve_verdict_metric(metric) != metric:
        yield make_remark("OTHER_METRIC", metric=metric)
    yield from _remark_on_data(sweep)


def _remark_on_similar_sets(sweep: SweepRecord, evidence: Evidence | None) -> Iterator[Remark]:
    """Yield what gained on similar data sets: where nothing was tested a guess, else whether this study agrees."""
    task = sweep.conditions.dataset.task
    ranked = rank_losses(task, tuple(compute_features(sweep.profile).values()), read_ledger())
    known = {advised.family: advised for advised in ranked if advised.gain is not None}
    if evidence is None:
        for advised in [*known.values()][:1]:
            params = make_weight_parameters(advised, task, sweep.imbalance)
            words = ", ".join(f"{name} {value:g}" for name, value in params.items()) or "its defaults"
            yield make_remark("GUESS", loss=advised.family, params=words, gain=advised.gain, sets=advised.sets)
        return
    names = [finalist.family for finalist in evidence.finalists]
    if BASELINE not in names or evidence.scale != Scale():
        return
    for name in [name for name in known if name in {*names} - {BASELINE}][:1]:
        here = get_difference(evidence, names.index(name), names.index(BASELINE)).estimate
        values = known[name].model_dump(include={"sets", "least", "most", "gain", "lowest", "highest"})
        place = ("below", "within", "above")[(here >= values["lowest"]) + (here > values["highest"])]
        yield make_remark("KNOWN", loss=name, here=here, place=place, **values)


def _remark_on_search(sweep: SweepRecord, evidence: Evidence | None, finalists: Sequence[Finalist]) -> Iterator[Remark]:
    """Yield what the search did not reach: finalists without a training, edges of ranges, hardly tuned losses."""
    judged = () if evidence is None else evidence.finalists
    for finalist in finalists:
        if evidence is not None and finalist.family not in {f.family for f in judged}:
            yield make_remark("MISSING", loss=finalist.family)
    for row in judged:
        edge = find_range_edge(row.lr, sweep.space) if row.lr_at_edge else None
        if edge is not None:
            yield make_remark("EDGE", loss=row.family, rate=row.lr, edge=edge)
    tried = Counter(trial.spec.family for trial in sweep.trials if trial.state != "failed")
    searched = [name for name, family in sweep.space.by_name.items() if family.is_searched]
    few = tuple(name for name in searched if tried[name] < FEW_TRIALS)
    if few and sweep.trials:
        yield make_remark("HARDLY_TUNED", losses=few, needed=FEW_TRIALS)


def _remark_on_data(sweep: SweepRecord) -> Iterator[Remark]:
    dataset = sweep.conditions.dataset
    if dataset.synthetic:
        yield make_remark("SYNTHETIC")
    if dataset.script_scores == "counts":
        yield make_remark("OWN_RULE")
    split = get_split(sweep.conditions, sweep.conditions.seed)
    for text in (*dataset.warnings, *list_missing_classes(dataset, split)):
        yield make_remark("DATA", text=capitalise(text).removesuffix("."))


# --- What to do next ----------------------------------------------------------------------------------------


def list_study_steps(
    sweep: SweepRecord, answer: Answer, evidence: Evidence | None, *, in_final: bool
) -> tuple[NextStep, ...]:
    """Return what to do next, first what would settle an open answer, then how to use it.

    `in_final` says that the evidence is that of the final training.
    """
    use = [*_list_uses(sweep, answer, evidence)]
    settle = [*_list_settling(sweep, answer, evidence, in_final=in_final), *answer.next]
    is_own = sweep.conditions.recipe.command is None and sweep.conditions.folds is None  # a script has its own length
    may_look = is_own and not sweep.final
    is_changed = sweep.concluded and answer.outcome is Outcome.CHANGE
    before = []
    if may_look and is_changed:
        before = [make_step("LOOK", f"{sweep.resume_command} --final auto")]
    is_open = answer.sure is Sure.OPEN or not sweep.concluded
    return (*before, *settle, *use) if is_open else (*before, *use, *settle)


def _list_settling(
    sweep: SweepRecord, answer: Answer, evidence: Evidence | None, *, in_final: bool
) -> Iterator[NextStep]:
    resume = sweep.resume_command
    if not sweep.concluded:
        yield make_step("FINISH", resume)
    if answer.outcome is Outcome.NONE:
        yield from _list_remedies(sweep, evidence)
        return
    if any(run.state == "failed" for run in sweep.confirmations):
        yield make_step("RETRY", resume)
    tried = {trial.spec.family for trial in sweep.trials}
    untried = tuple(name for name in sweep.space.by_name if name not in tried)
    if not tried and sweep.minutes is not None:  # the final training alone compared
        yield _propose_time(sweep, sweep.minutes)
    elif untried and sweep.concluded:
        total = len(sweep.trials) + len(untried)
        yield make_step("UNTRIED", resume + f" --trials {total}" * (total > sweep.trials_asked), losses=untried)
    elif sweep.cut:
        yield make_step("MORE_TIME", resume)
    if any(answer.find(code) for code in ("FADED", "LUCKY", "RISING")):
        yield _propose_steps(sweep, in_final=in_final)


def _propose_time(sweep: SweepRecord, minutes: int) -> NextStep:
    """Return the command that searches at as many steps as the classes need."""
    return make_step("TIME", f"{sweep.resume_command} --time {minutes}m", minutes=minutes)


def _propose_steps(sweep: SweepRecord, *, in_final: bool) -> NextStep:
    """Return the command that compares with more steps, in the network that the answer is about."""
    recipe, resume = sweep.conditions.recipe, sweep.resume_command
    made = max((result.spec.steps for result in sweep.final), default=0)
    if in_final:
        return make_step("STEPS", f"{resume} --final steps={2 * made}", steps=2 * made)
    steps = made if made and recipe.final is None else 2 * recipe.confirm_steps
    return make_step("STEPS", f"{resume} --confirm-steps {steps}", steps=steps)


def _list_remedies(sweep: SweepRecord, evidence: Evidence | None) -> Iterator[NextStep]:
    """Yield what may help where nothing was learned or confirmed, the cheapest first."""
    recipe, dataset = sweep.conditions.recipe, sweep.conditions.dataset
    trained = (*sweep.probes, *sweep.trials, *sweep.confirmations)
    ended = [trial for trial in sweep.trials if trial.state != "failed"]
    is_untested = bool(ended) and not sweep.confirmations
    is_unlearned = is_untested and not any(trial.collapse.learned for trial in ended)
    has_learned = sweep.learned and not is_unlearned
    if evidence is None and has_learned:
        yield make_step("MORE_TIME" if sweep.cut else "RETRY", sweep.resume_command)
        return
    yield make_step("CHECK", f"sweeper profile {dataset.source}" if not dataset.synthetic else "")
    command = sweep.command or "sweeper run"
    if sweep.minutes is not None:
        yield _propose_time(sweep, sweep.minutes)
    else:
        steps = 4 * max([recipe.steps, *(run.spec.steps for run in trained)])
        steps = min(steps, 100) if recipe.command is not None else steps
        drop = ("--confirm-steps", "--study")
        yield make_step("STEPS", replace_options(command, {"--steps": steps}, drop=drop), steps=steps)
    is_ours = recipe.command is None and recipe.model is None
    has_no_weights = recipe.encoder_weights == "none" and not dataset.synthetic
    if is_ours and has_no_weights:
        drop = ("--confirm-steps", "--study")
        yield make_step("WEIGHTS", replace_options(command, {"--encoder-weights": "imagenet"}, drop=drop))


def make_step(code: str, command: str = "", **values: Value) -> NextStep:
    """Return a next step with its command and the values in its sentence."""
    return NextStep(code=code, values=values, command=command)


def _list_uses(sweep: SweepRecord, answer: Answer, evidence: Evidence | None) -> Iterator[NextStep]:
    """Yield how the answer is used."""
    if answer.use is None:
        return
    train, predict, export = (
        format_study_command(command, sweep.study, sweep.storage) for command in ("train", "predict", "export")
    )
    if sweep.conditions.recipe.command is not None:
        yield make_step("EXPORT_LOSS", export)
        return
    losses = len({answer.use.loss, answer.present} | {f.family for f in (evidence.finalists if evidence else ())})
    least, most = count_confirm_trainings(losses)
    yield make_step("TRAIN", train)
    yield make_step("PREDICT", f"{predict} new_images/ --out answers")
    yield make_step("EXPORT", export)
    yield make_step("CONFIRM", format_confirm_command(sweep.study, sweep.storage), least=least, most=most)
    words = shlex.split(sweep.places)
    at = words.index("--tracking-uri") if "--tracking-uri" in words else len(words)
    yield make_step("UI", shlex.join(["sweeper", "ui", *words[at : at + 2]]))
