"""`sweeper confirm`: losses compared in the user's own training script."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from sweeper.cli.options import SweeperCommand, add_json_option
from sweeper.cli.run import run_with
from sweeper.cli.settings_options import add_options, format_option_name
from sweeper.cli.signals import StopRequest
from sweeper.cli.terminal import echo_result, get_width
from sweeper.core.errors import InterruptedSweepError, UsageError
from sweeper.core.paths import COMPARISONS, TRACKING, make_folder_name
from sweeper.core.text import format_comparison_resume_command, format_option, format_places, join_words
from sweeper.system.locks import hold_folder
from sweeper.workflow.settings import ConfirmOptions, Settings, make_options

if TYPE_CHECKING:
    from sweeper.core.document import Document
    from sweeper.evidence.document import AnswerDocument
    from sweeper.scripts.answer import Confirmation
    from sweeper.scripts.comparison_plan import ConfirmationPlan
    from sweeper.scripts.trainings import ScriptLoss

NAMES_IN_RUN = {"losses": "space"}
"""Names of these options in the settings of a study."""
PLANNED = {"seeds", "rates", "rate_share", "folds", "metric", "margin"}
"""Options that a comparison keeps, by the names of its plan's fields."""


@click.command(cls=SweeperCommand)
@click.argument("source", required=False, metavar="[STUDY|DATA]")
@add_options(ConfirmOptions)
@click.option(
    "--dry-run", is_flag=True, help="Probe the script, print what it costs and how precise it will be, and end."
)
@add_json_option()
def command(source: str | None, *, dry_run: bool, as_json: bool, **values: Any) -> None:
    """Compare losses, STUDY's finalists or --losses, in your own training script; without one on DATA.

    The script is probed first (`sweeper probe`). Then each loss tries some learning rates on short trainings, and is
    trained on the same fresh seeds as all others, until the answer is known or --seeds are used up.

    \b
    sweeper confirm STUDY --command "python train.py"                     the finalists of a study
    sweeper confirm --losses dice_ce,tversky --command "python train.py"  these, and cross-entropy
    sweeper confirm --losses dice_ce --present my_losses:mine --command "python train.py"
    sweeper confirm FOLDER --losses dice_ce,tversky:fn_weight=0.7         a study of these, without a script
    """
    ctx = click.get_current_context()
    given = {name: value for name, value in values.items() if ctx.get_parameter_source(name) != ParameterSource.DEFAULT}
    options = make_options(ConfirmOptions, given, "the comparison", format_option_name)
    if (of_study := list_study_options(source, options)) is not None:
        settings = make_options(Settings, of_study, "the sweep", format_option_name)
        run_with(settings, dry_run=dry_run, as_json=as_json)
        return
    log, show = partial(click.echo, err=True), partial(echo_result, as_json=as_json)
    with StopRequest(log, whole=True) as stop:
        compare_losses(source, options, stop, log=log, show=show, dry_run=dry_run)


def list_study_options(source: str | None, options: ConfirmOptions) -> dict[str, Any] | None:
    """Return the options of a study of the named losses on DATA, by sweeper's own training; None for a script."""
    if options.command is not None or source is None or options.losses is None:
        return None
    given = {NAMES_IN_RUN.get(name, name): getattr(options, name) for name in options.model_fields_set}
    if options.seeds is not None:
        given["seeds"] = "{}..{}".format(*options.seeds)
    return {**given, "data": source}


def compare_losses(
    source: str | None,
    options: ConfirmOptions,
    stop: StopRequest,
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
    from sweeper.scripts import comparison_plan
    from sweeper.scripts.answer import format_summary
    from sweeper.scripts.confirm import confirm_losses
    from sweeper.scripts.starter import ScriptStarter
    from sweeper.scripts.trainings import ScriptTrainings

    if options.command is None and not options.resume:
        raise UsageError('--command "python train.py" is needed; for DATA without a script, --losses dice_ce,tversky')
    if options.rates == (1.0,) and options.rate_share is not None:
        raise UsageError("--rate-share is for rates that are tried, got --rates none; leave one out")
    name = options.study or make_comparison_name(source, options.command)
    resume_command = format_comparison_resume_command(name, format_places(options.tracking_uri, options.out))
    folder = (COMPARISONS / make_folder_name(name)).resolve()
    began = time.monotonic()
    with hold_folder(folder, f"the comparison {name!r}"):
        is_begun = (folder / comparison_plan.PLAN).exists()
        if is_begun and not options.resume:
            raise UsageError(
                f"a comparison {name!r} was begun; `{resume_command}` continues it, another --study begins another"
            )
        if options.command is None or is_begun:
            plan = _resume_plan(folder, source, options)
        else:
            plan = _begin_plan(name, options.command, source, options, dry_run=dry_run, log=log)
        for line in comparison_plan.forecast_confirmation(plan, options.workers):
            log(line)
        if dry_run:
            show(plan.probe, plan.probe.text)
            return None
        from sweeper.workflow.studies import write_comparison_answer
        from sweeper.workflow.tracked_comparison import ComparisonRuns  # loads MLflow, which refusals do not need

        comparison_plan.write_plan(folder, plan)
        stop.defer_signals()

        def is_stopped() -> bool:
            return stop.status is not None

        starter = ScriptStarter(
            plan.command, seconds=options.time_limit or inf, workers=options.workers, is_stopped=is_stopped, log=log
        )
        runs = ComparisonRuns(options.tracking_uri, plan, log, resume_command=resume_command, stopped=is_stopped)
        trainings = ScriptTrainings(starter, folder, plan.task, log, runs.write_training)
        report = options.out / make_folder_name(name)
        try:
            made = confirm_losses(plan, trainings, resume_command=resume_command, log=log)
            document = _finish(made, report, show)
            write_comparison_answer(folder, document)
            log(format_summary(made, time.monotonic() - began))
        except InterruptedSweepError as error:
            runs.end_sweep("KILLED")
            raise InterruptedSweepError(
                f"stopped; what ended is kept, and `{resume_command}` continues", stop.status or 130
            ) from error
        except Exception as error:
            runs.end_sweep("FAILED")
            error.add_note(resume_command)
            raise
        runs.write_answer(document, made.trainings, report)
        log(f"MLflow: sweeper ui {shlex.quote(name)}{format_option('--tracking-uri', options.tracking_uri, TRACKING)}")
        return document


def make_comparison_name(study: str | None, script: str | None) -> str:
    """Return the default name of a comparison: the study's, or the script's file."""
    if study is not None:
        return f"own-{study}"
    words = [Path(word).stem for word in shlex.split(script or "") if word.endswith((".py", ".sh"))]
    return f"{words[0] if words else 'own'}-losses"


def _begin_plan(
    name: str, script: str, study: str | None, options: ConfirmOptions, *, dry_run: bool, log: Callable[[str], None]
) -> ConfirmationPlan:
    """Probe the script, and return the plan of a new comparison.

    Raises:
        UsageError: if the losses cannot be compared, or MLflow's store does not answer.
        ScriptError: if losses cannot be compared in the script.
    """
    from sweeper.scripts import comparison_plan
    from sweeper.scripts.probe import START_SECONDS, probe_script
    from sweeper.scripts.sources import hash_sources

    sources = hash_sources(script)
    losses, present = _list_losses(study, options)
    if not dry_run:
        from sweeper.tracking import connect_to_mlflow
        from sweeper.tracking.mirror import MlflowMirror

        store = options.tracking_uri
        MlflowMirror(connect_to_mlflow(store), store).check_experiment(name)
    plan = comparison_plan.ConfirmationPlan(
        name=name,
        command=script,
        losses=losses,
        present=present,
        own=comparison_plan.find_own_losses(losses),
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


def _list_losses(study: str | None, options: ConfirmOptions) -> tuple[tuple[ScriptLoss, ...], str]:
    """Return the losses, and the name of the present one; the user's own are declared."""
    from sweeper.losses.families import PRESENT, is_own_loss
    from sweeper.scripts.comparison_plan import list_study_losses, parse_losses
    from sweeper.workflow.own_losses import declare_loss

    named, present = options.losses, options.present
    for name in filter(is_own_loss, f"{named},{present}".split(",")):
        declare_loss(name.strip())
    if (named is None) == (study is None):
        raise UsageError("either a STUDY or --losses must name the losses; give one, as --losses dice_ce,tversky")
    if study is None:
        present = present or PRESENT
        return parse_losses(str(named), present), present
    from sweeper.storage import load_sweep, open_storage
    from sweeper.workflow.conclude import draw_conclusion

    sweep = load_sweep(open_storage(options.storage, create=False), study)
    evidence, present = draw_conclusion(sweep).evidence, present or sweep.space.present.family
    finalists = [] if evidence is None else [(finalist.family, finalist.params) for finalist in evidence.finalists]
    losses = list_study_losses(finalists, present)
    if left := {family for family, _ in finalists} - {loss.name for loss in losses}:
        click.echo(f"left out, as they need more than logits and labels: {', '.join(sorted(left))}", err=True)
    if len(losses) < 2:
        raise UsageError(f"study {study!r} has no finalist besides {present}; give --losses, or finish it")
    return losses, present


def _resume_plan(folder: Path, study: str | None, options: ConfirmOptions) -> ConfirmationPlan:
    """Return the plan of an existing comparison, with more seeds or another margin if requested.

    Raises:
        UsageError: if something else is requested, or the script was changed.
    """
    from sweeper.core.own_code import locate_code
    from sweeper.losses.own_losses import register_user_losses
    from sweeper.scripts import comparison_plan
    from sweeper.scripts.sources import name_changed_sources

    plan = comparison_plan.open_plan(folder)
    register_user_losses(plan.own)
    seeds, margin = options.seeds or plan.seeds, options.margin
    wanted = options.model_dump(include={"command", "present", *PLANNED} - {"seeds", "margin"})
    if study is not None or options.losses is not None:
        wanted["losses"] = comparison_plan.fill_losses(_list_losses(study, options)[0], plan.task)
    problems = comparison_plan.list_plan_changes(plan, wanted)
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
    update = {"seeds": seeds, "extended": plan.extended or seeds[1] > plan.seeds[1]}
    return plan.model_copy(update=update if margin is None else {**update, "margin": margin})


def _finish(made: Confirmation, folder: Path, show: Callable[[Document, str], None]) -> AnswerDocument:
    """Write the files, and show the answer."""
    from sweeper.evidence.answer import make_remark
    from sweeper.evidence.answer_text import format_answer
    from sweeper.report.formatting import make_fence
    from sweeper.report.judgement import write_judgement
    from sweeper.scripts.answer import write_confirmation
    from sweeper.workflow.own_script import warn_of_changed_script

    document, notes = made.answer, list[str]()
    warn_of_changed_script(made.plan.command, made.plan.sources, notes.append)
    remarks = (*(make_remark("DATA", text=note) for note in notes), *document.remarks)
    document = document.model_copy(update={"remarks": remarks})
    write_confirmation(made, folder)
    title, end = f"Losses in {document.command}", [make_fence(made.resume_command, "bash")]
    path = write_judgement(made.judgement, document, folder, title=title, end=end)
    files = f"Report: {path} (report.html, loss.py and trainings.csv next to it)"
    show(document, format_answer(document, get_width(), places=[files]))
    return document
