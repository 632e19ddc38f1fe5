"""`sweeper confirm`: a comparison of losses in the user's script, begun or resumed, and run to its report."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from datetime import UTC, datetime
from math import inf
from pathlib import Path

from sweeper.core.document import Document
from sweeper.core.errors import InterruptedSweepError, UsageError
from sweeper.core.own_code import locate_code
from sweeper.core.paths import COMPARISONS, make_folder_name
from sweeper.core.text import format_comparison_resume_command, format_count, format_places, get_width, join_words
from sweeper.evidence.answer import make_remark
from sweeper.evidence.answer_text import format_answer
from sweeper.evidence.document import AnswerDocument
from sweeper.evidence.phrases import format_headline
from sweeper.losses.families import PRESENT, is_own_loss, parse_loss
from sweeper.losses.own_losses import OWN, register_user_losses
from sweeper.scripts import comparison_plan
from sweeper.scripts.comparison_plan import PLAN, ConfirmationPlan
from sweeper.scripts.confirm import Confirmation, confirm_losses, format_summary, write_confirmation
from sweeper.scripts.probe import START_SECONDS, probe_script
from sweeper.scripts.starter import ScriptStarter
from sweeper.scripts.trainings import ScriptLoss, ScriptTrainings
from sweeper.storage import load_sweep, open_storage
from sweeper.system.locks import hold_folder
from sweeper.workflow.conclude import draw_conclusion
from sweeper.workflow.own_losses import declare_loss
from sweeper.workflow.own_script import hash_sources, name_changed_sources, warn_of_changed_script
from sweeper.workflow.run_context import StopSignal
from sweeper.workflow.settings import ConfirmOptions
from sweeper.workflow.status import COMPARISON_STATUS, Heartbeat
from sweeper.workflow.studies import write_comparison_answer

PLANNED = {"seeds", "rates", "rate_share", "folds", "metric", "margin"}
"""Options that a comparison keeps, by the names of its plan's fields."""


def compare_losses(
    source: str | None,
    options: ConfirmOptions,
    stop: StopSignal,
    *,
    log: Callable[[str], None],
    show: Callable[[Document, str], None] = lambda *_: None,
    dry_run: bool = False,
) -> AnswerDocument | None:
    """Compare losses in the user's script, and write the report; `show` gets the answer with its text.

    Returns:
        The answer, or None after a dry run.

    Raises:
        UsageError: if the losses cannot be compared like this.
        InterruptedSweepError: if it was stopped; what ended is kept.
    """
    _check_options(options)
    name, places = options.study or make_comparison_name(source, options.command), options.places
    resume_command = format_comparison_resume_command(name, places)
    folder = (COMPARISONS / make_folder_name(name)).resolve()
    began = time.monotonic()
    with hold_folder(folder, f"the comparison {name!r}"):
        is_begun = (folder / PLAN).exists()
        if is_begun and not options.resume:
            raise UsageError(
                f"a comparison {name!r} was begun; `{resume_command}` continues it, another --study begins another"
            )
        if options.command is None or is_begun:
            plan = resume_plan(folder, source, options, log)
        else:
            plan = _begin_plan(name, options.command, source, options, dry_run=dry_run, log=log)
        for line in comparison_plan.forecast_confirmation(plan, options.workers, comparison_plan.count_ended(folder)):
            log(line)
        if dry_run:
            show(plan.probe, plan.probe.text)
            return None
        from sweeper.workflow.tracked_comparison import ComparisonRuns  # loads MLflow, which refusals do not need

        comparison_plan.write_plan(folder, plan)
        stop.defer_signals()

        def is_stopped() -> bool:
            return stop.status is not None

        starter = ScriptStarter(
            plan.command, seconds=options.time_limit or inf, workers=options.workers, is_stopped=is_stopped, log=log
        )
        runs = ComparisonRuns(options.tracking_uri, plan, log, resume_command=resume_command, stopped=is_stopped)
        report, so_far = options.out / make_folder_name(name), [""]
        try:
            with Heartbeat(folder / COMPARISON_STATUS, name, places=places, command="confirm") as heartbeat:

                def publish(seeds: int, document: AnswerDocument) -> None:
                    comparison_plan.record_analysis(folder, plan, seeds)
                    log(answer := f"after {format_count(seeds, 'seed')}: {format_headline(document)}")
                    heartbeat.record_answer(answer)
                    write_comparison_answer(folder, document)
                    so_far.append(f" ({answer})")

                trainings = ScriptTrainings(
                    starter,
                    folder,
                    plan.task,
                    log,
                    on_training_end=runs.write_training,
                    on_progress=heartbeat.record_progress,
                )
                made = confirm_losses(plan, trainings, resume_command=resume_command, publish=publish)
                document = _write_report(made, report, show)
                write_comparison_answer(folder, document)
            log(format_summary(made, time.monotonic() - began))
        except InterruptedSweepError as error:
            runs.end_sweep("KILLED")
            raise InterruptedSweepError(
                f"stopped; what ended is kept{so_far[-1]}, and `{resume_command}` continues", stop.status or 130
            ) from error
        except Exception as error:
            runs.end_sweep("FAILED")
            error.add_note(resume_command)
            raise
        runs.write_answer(document, made.trainings, report)
        log(f"MLflow: sweeper ui {shlex.quote(name)}{format_places(options.tracking_uri)}")
        return document


def _check_options(options: ConfirmOptions) -> None:
    """Refuse options that contradict each other, or say nothing to begin with."""
    if options.command is None and not options.resume:
        raise UsageError('--command "python train.py" is needed; for DATA without a script, --losses dice_ce,tversky')
    if options.rates == (1.0,) and options.rate_share is not None:
        raise UsageError("--rate-share is for rates that are tried, got --rates none; leave one out")


def make_comparison_name(study: str | None, script: str | None) -> str:
    """Return the default name of a comparison: the study's, or the script's file."""
    if study is not None:
        return f"own-{study}"
    words = shlex.split(script or "")
    names = [Path(word).stem for word in words if word.endswith((".py", ".sh"))]
    return f"{names[0] if names else 'own'}-losses"


def _begin_plan(
    name: str, script: str, study: str | None, options: ConfirmOptions, *, dry_run: bool, log: Callable[[str], None]
) -> ConfirmationPlan:
    """Probe the script, and return the plan of a new comparison.

    Raises:
        UsageError: if the losses cannot be compared, or MLflow's store does not answer.
        ScriptError: if losses cannot be compared in the script.
    """
    sources = hash_sources(script)
    losses, present = _list_losses(study, options, log)
    if not dry_run:
        from sweeper.tracking import connect_to_mlflow
        from sweeper.tracking.mirror import MlflowMirror

        store = options.tracking_uri
        MlflowMirror(connect_to_mlflow(store), store).check_experiment(name)
    own = tuple(OWN[loss.family] for loss in losses if loss.family in OWN)
    plan = ConfirmationPlan(
        name=name,
        command=script,
        losses=losses,
        present=present,
        own=own,
        sources=sources,
        probe=probe_script(script, seconds=options.time_limit or START_SECONDS, log=log),
        created=datetime.now(UTC).isoformat(),
        **options.model_dump(include=PLANNED, exclude_none=True),
    )
    if options.metric is not None and not plan.task.has_counts:
        raise UsageError(
            f"--metric is for logits and counts, and the script gives a {plan.task.kinds['test']}; leave it out"
        )
    return plan.model_copy(update={"losses": comparison_plan.fill_losses(losses, plan.task)})


def _list_losses(
    study: str | None, options: ConfirmOptions, log: Callable[[str], None]
) -> tuple[tuple[ScriptLoss, ...], str]:
    """Return the losses, and the name of the present one; the user's own are declared."""
    named, present = options.losses, options.present
    for name in filter(is_own_loss, f"{named},{present}".split(",")):
        declare_loss(name.strip())
    if (named is None) == (study is None):
        raise UsageError("either a STUDY or --losses must name the losses; give one, as --losses dice_ce,tversky")
    if study is None:
        present = present or PRESENT
        return comparison_plan.parse_losses(str(named), present), present
    sweep = load_sweep(open_storage(options.storage, create=False), study)
    evidence, present = draw_conclusion(sweep).evidence, present or sweep.space.present.family
    family, given = parse_loss(present)
    present = present if given else family  # a loss of the user's has the name that it has in the study
    finalists = [] if evidence is None else [(finalist.family, finalist.params) for finalist in evidence.finalists]
    losses = comparison_plan.list_study_losses(finalists, present)
    if left := {family for family, _ in finalists} - {loss.name for loss in losses}:
        log(f"left out, as they need more than logits and labels: {', '.join(sorted(left))}")
    if len(losses) < 2:
        raise UsageError(f"study {study!r} has no finalist besides {present}; give --losses, or finish it")
    return losses, present


def resume_plan(
    folder: Path, study: str | None, options: ConfirmOptions, log: Callable[[str], None] = lambda _: None
) -> ConfirmationPlan:
    """Return the plan of an existing comparison, with more seeds or another margin if requested.

    Raises:
        UsageError: if something else is requested, or the script was changed.
    """
    plan = comparison_plan.open_plan(folder)
    register_user_losses(plan.own)
    seeds, margin = options.seeds or plan.seeds, options.margin
    wanted = options.model_dump(include={"command", "present", *PLANNED} - {"seeds", "margin"}, exclude_none=True)
    if study is not None or options.losses is not None:
        wanted["losses"] = comparison_plan.fill_losses(_list_losses(study, options, log)[0], plan.task)
    present = options.present or ""
    if is_own_loss(present) and plan.present == parse_loss(present)[0]:
        del wanted["present"]  # by the name that it has in the study
    problems = [
        f"{name.replace('_', '-')} was {getattr(plan, name)}, and is now {value}"
        for name, value in wanted.items()
        if getattr(plan, name) != value
    ]
    if seeds[1] < plan.seeds[1]:
        problems.append(f"seeds were {plan.seeds[1]}, and can only become more")
    changed = [loss.code.name for loss in plan.own if locate_code(loss.code, "--losses").digest != loss.code.digest]
    changed += filter(None, [name_changed_sources(plan.sources, plan.command)])
    if changed:
        problems.append(f"{join_words(changed)} changed, so that trainings would no longer be of one script")
    if problems:
        raise UsageError(
            "the comparison cannot be resumed like this; restore it, or begin another with another --study:\n"
            + "\n".join(f"  - {text}" for text in problems)
        )
    return plan.model_copy(update={"seeds": seeds} if margin is None else {"seeds": seeds, "margin": margin})


def _write_report(made: Confirmation, folder: Path, show: Callable[[Document, str], None]) -> AnswerDocument:
    """Write the files, and show the answer."""
    from sweeper.report.formatting import make_fence  # matplotlib: not before there is an answer
    from sweeper.report.judgement import write_judgement

    document, notes = made.answer, list[str]()
    warn_of_changed_script(made.plan.command, made.plan.sources, notes.append)
    remarks = (*(make_remark("DATA", text=note) for note in notes), *document.remarks)
    document = document.model_copy(update={"remarks": remarks})
    write_confirmation(made, folder)
    title, end = f"Losses in {document.command}", [make_fence(made.resume_command, "bash")]
    path = write_judgement(made.judgement, document, folder, title=title, end=end)
    files = f"Report: {path} (report.html, {'loss.py and ' * (made.used is not None)}trainings.csv next to it)"
    show(document, format_answer(document, get_width(), places=[files]))
    return document
