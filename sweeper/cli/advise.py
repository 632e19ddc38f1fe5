"""`sweeper advise DATA`: which losses to try first on such data, before anything is trained."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, ClassVar

import click

from sweeper.cli.options import SweeperCommand, add_json_option, format_columns
from sweeper.cli.settings_options import add_data_options, read_requested_dataset
from sweeper.cli.terminal import echo_lines, echo_result
from sweeper.core.document import DatasetSummary, Document
from sweeper.core.errors import UsageError
from sweeper.core.paths import REPORTS
from sweeper.core.text import escape_for_display, format_count, format_signed, format_significant
from sweeper.core.yaml_file import format_yaml, read_yaml
from sweeper.fingerprint.imbalance import profile_dataset
from sweeper.fingerprint.ledger import (
    BASELINE,
    LONGER_TIMES,
    AdvisedLoss,
    compute_features,
    explain_stake,
    make_weight_parameters,
    measure_nearness,
    rank_losses,
    read_ledger,
    read_user_rows,
)
from sweeper.space import get_space_path

TRAININGS, MINUTES = 38, 3
"""Cost of checking the advice with the CPU's default recipe (docs/performance.md): trainings of 100 steps, minutes on
two cores."""


class AdviceDocument(Document):
    """Document that `sweeper advise --json` prints."""

    SCHEMA: ClassVar[str] = "sweeper.advice/1"

    dataset: DatasetSummary
    features: dict[str, float]
    """The fingerprint by which data sets are compared."""
    losses: tuple[AdvisedLoss, ...]
    """The most promising first; `params` as in `sweeper losses`, {} = the family's defaults."""
    similar: int
    """Number of the ledger's nearest sets that are similar; 0 = the data are unlike all measured ones."""
    stake: str
    """How much depends on the choice of the loss, in a sentence."""
    own_studies: int
    """Finished studies of this folder that joined the ledger."""
    trainings: int
    """Approximate number of trainings of 100 steps with which `sweeper run` checks it."""
    minutes: float
    """On two cores, with the CPU's default recipe."""


@click.command("advise", cls=SweeperCommand)
@add_data_options
@add_json_option()
@click.option(
    "--space-out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a search space of the families that may be best, for `sweeper run --space`.",
)
@click.option(
    "--reports",
    type=click.Path(file_okay=False, path_type=Path),
    default=REPORTS,
    show_default=True,
    help="Folder of your own finished studies, which are added to the ledger.",
)
@click.option("--no-own-studies", is_flag=True, help="Use only the ledger that comes with sweeper.")
def command(
    *, as_json: bool, space_out: Path | None, reports: Path, no_own_studies: bool, **dataset_options: Any
) -> None:
    """Say which losses to try first on DATA, without training anything.

    It compares the labels with a ledger of measured data sets, synthetic and real, and orders the losses by their gain
    over cross-entropy on the nearest ones; on data unlike all of them it claims no gain. This is only a starting point:
    `sweeper run` finds out. DATA is as in `sweeper profile`.
    """
    dataset = read_requested_dataset(dataset_options)
    profile = profile_dataset(dataset)
    features = compute_features(profile)
    user_rows = () if no_own_studies else read_user_rows(reports)
    measured = (dataset.task, tuple(features.values()), (*read_ledger(), *user_rows))
    losses = [
        loss.model_copy(update={"params": make_weight_parameters(loss, dataset.task, profile.imbalance)})
        for loss in rank_losses(*measured)
    ]
    document = AdviceDocument(
        dataset=DatasetSummary.from_dataset(dataset),
        features=features,
        losses=tuple(losses),
        similar=measure_nearness(*measured).similar,
        stake=explain_stake(*measured),
        own_studies=len({row.point for row in user_rows}),
        trainings=TRAININGS,
        minutes=MINUTES,
    )
    if space_out is not None:
        _write_space(document, space_out)
    echo_result(document, _format_advice(document), as_json=as_json)


def _write_space(advice: AdviceDocument, out: Path) -> None:
    """Write the task's shipped space without the families whose highest gain is below the first one's mean gain."""
    first = advice.losses[0]
    kept = {BASELINE} | {
        loss.family
        for loss in advice.losses
        if first.gain is None or loss.highest is None or loss.highest >= first.gain
    }
    problems: list[str] = []
    content = read_yaml(get_space_path(advice.dataset.task), problems)
    assert isinstance(content, dict) and not problems
    content["losses"] = {family: ranges for family, ranges in content["losses"].items() if family in kept}
    try:
        out.write_text(format_yaml(content), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--space-out {out} must be a file that can be written: {error}; name another") from error
    echo_lines(f"search space: {out} ({', '.join(content['losses'])})", err=True)


def _format_advice(advice: AdviceDocument) -> str:
    sets = max(loss.sets for loss in advice.losses)
    user_studies = (
        f", {format_count(advice.own_studies, 'study', 'studies')} of yours among all" if advice.own_studies else ""
    )
    which = f"{sets} nearest data sets of the ledger, {advice.similar} of them similar"
    if not advice.similar:
        which = f"all {sets} data sets of the ledger, which gives the order and claims no gain here"
    longer = f"at {LONGER_TIMES}× the steps"
    headings = ("try", "learning rate", "mean gain", "lowest to highest", longer, "start with")
    return (
        f"{escape_for_display(advice.dataset.name)}: gain in test mIoU over cross-entropy on {which}{user_studies}; "
        "each loss at its own threshold\n"
        f"{format_columns([headings, *map(_make_cells, advice.losses)])}\n{advice.stake}\n"
        f"`sweeper run {shlex.quote(escape_for_display(advice.dataset.source))}` checks it on your data: about "
        f"{advice.trainings} trainings of 100 steps, some {advice.minutes:g} min on two cores with the CPU's recipe; "
        "--dry-run says what it takes here."
    )


def _make_cells(loss: AdvisedLoss) -> tuple[str, ...]:
    start = ", ".join(f"{name} {format_significant(value)}" for name, value in loss.params.items())
    if loss.gain is None or loss.lowest is None or loss.highest is None:
        return loss.family, f"{loss.lr:g}", "–", "–", "–", "its defaults"
    gain, ends = format_signed(loss.gain), f"{format_signed(loss.lowest)} to {format_signed(loss.highest)}"
    longer = "–" if loss.gain_longer is None else format_signed(loss.gain_longer)
    if loss.family == BASELINE:
        gain, ends, longer = "0", "–", "0"
    return loss.family, f"{loss.lr:g}", gain, ends, longer, start or "–"
