"""The operating point that keeps `--miss-at-most`, for a study's network or one of `sweeper train`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sweeper.core.errors import UsageError
from sweeper.core.records import Dataset, HeldOut, ImageCounts, MissControl, MissLimit, Recommended, SweepRecord
from sweeper.core.text import format_study_command
from sweeper.evidence.miss_control import find_controlled_point

if TYPE_CHECKING:
    from sweeper.training.weights_file import WeightsRecord


def make_held_out(dataset: Dataset, counts: ImageCounts) -> HeldOut:
    """Return counts with their images' groups as numbers: names, which may be those of patients, are not stored."""
    groups = dataset.list_groups(counts.images)
    numbers = {name: str(number) for number, name in enumerate(dict.fromkeys(groups))}
    return HeldOut(counts=counts, groups=tuple(None if name is None else numbers[name] for name in groups))


def read_confirmation_held_out(sweep: SweepRecord, chosen: Recommended, limit: MissLimit) -> MissControl:
    """Return the point that keeps the limit for the confirmation whose weights are kept, on the test images.

    Raises:
        UsageError: as `find_controlled_point`, or if the study has folds or no such confirmation.
    """
    conditions = sweep.conditions
    if conditions.folds is not None:
        raise UsageError(
            "--miss-at-most needs images that chose nothing, and the search of a study with folds saw all of them; "
            "run one without --folds"
        )
    configuration = (chosen.family, tuple(sorted(chosen.params.items())), chosen.lr)
    counts = next(
        (
            run.test
            for run in sweep.confirmations
            if run.spec.keep_predictions
            and (run.spec.configuration, run.spec.steps) == (configuration, conditions.recipe.confirm_steps)
        ),
        None,
    )
    if counts is None:
        raise UsageError(
            f"--miss-at-most is a limit of one network, and no training of {chosen.family} at the recommended learning "
            f"rate gave one; `{format_study_command('train', sweep.study, sweep.storage, sweep.places)}` does"
        )
    before = chosen.threshold if chosen.threshold is not None else chosen.tau
    assert before is not None
    return find_controlled_point(make_held_out(conditions.dataset, counts), limit, conditions.dataset.classes, before)


def read_weights_held_out(record: WeightsRecord, limit: MissLimit) -> MissControl:
    """Return the point that keeps the limit for a network of `sweeper train`, on the images that it left out.

    Raises:
        UsageError: as `find_controlled_point`, or if it left none out.
    """
    if record.held_out is None:
        raise UsageError(
            "--miss-at-most needs a network's answers on images that it was not trained on, and these weights hold "
            "none; name the STUDY for the network that it keeps, or train one (sweeper train STUDY --on train+val)"
        )
    before = record.point if record.misses is None else record.misses.before
    return find_controlled_point(record.held_out, limit, record.classes, before)
