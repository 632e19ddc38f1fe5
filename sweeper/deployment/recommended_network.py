"""A study's recommendation and its network on this machine, for `train`, `predict` and `export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sweeper.core.errors import SweeperError
from sweeper.core.own_code import load_code
from sweeper.core.own_metric import OPTION
from sweeper.core.records import OperatingPoint, SweepRecord, Use
from sweeper.core.text import format_study_command
from sweeper.evidence.document import AnswerDocument
from sweeper.evidence.phrases import format_head
from sweeper.storage import load_sweep
from sweeper.training.weights_file import WeightsRecord, list_kept_weights
from sweeper.workflow.conclude import draw_conclusion, make_document

if TYPE_CHECKING:
    from sweeper.storage.resilient_storage import RetryingStorage


class RecommendedAnswer(NamedTuple):
    """A study with the loss that its answer uses."""

    sweep: SweepRecord
    document: AnswerDocument
    chosen: Use

    @property
    def point(self) -> OperatingPoint:
        """The operating point to use."""
        assert self.chosen.point is not None  # a study's answer has one
        return self.chosen.point

    @property
    def rate(self) -> float:
        """The learning rate to use; with a user's script the factor on its own."""
        assert self.chosen.lr is not None  # a study's answer has one
        return self.chosen.lr

    @property
    def loss(self) -> tuple[object, ...]:
        """The loss and its coordinates."""
        return self.chosen.loss, tuple(sorted(self.chosen.params.items()))

    @property
    def configuration(self) -> tuple[object, ...]:
        """The loss, its coordinates and the learning rate."""
        return *self.loss, self.rate


class KeptNetwork(NamedTuple):
    """A file of weights, with its header, which has the operating point to use."""

    path: Path
    record: WeightsRecord
    study: str | None = None
    """The study that recommends the network; None = a file given by the user."""


def load_answer(storage: RetryingStorage, name: str, purpose: str) -> RecommendedAnswer:
    """Load a study and its recommendation; `purpose` ends the sentence "there is nothing to …".

    Raises:
        StudyError: if the study does not exist.
        SweeperError: if the study recommends nothing.
        UsageError: if its metric is the user's own and missing or changed; by mIoU another loss might be recommended.
    """
    sweep = load_sweep(storage, name)
    if (metric := sweep.conditions.recipe.own_metric) is not None:
        load_code(metric, OPTION)
    document = make_document(sweep, draw_conclusion(sweep))
    if document.use is None:
        raise SweeperError(
            f"study {name!r} has no answer, so that there is nothing to {purpose}: {format_head(document)} "
            f"`{format_study_command('report', name, sweep.storage)}` says more"
        )
    return RecommendedAnswer(sweep, document, document.use)


def find_kept_network(answer: RecommendedAnswer, folder: Path) -> KeptNetwork | None:
    """Find the kept network of the recommended configuration and the study's data, in the folder of its weights.

    This is the last written one of `sweeper train` that has learned (`Collapse.learned`), else that of the study's
    final training which scored best on validation images, each at its own operating point; else the kept confirmation
    with the study's own steps, at the recommended one; None without any.

    Raises:
        UsageError: if a file in the folder is damaged, because it might be the wanted one.
    """
    steps, digest = answer.sweep.conditions.recipe.confirm_steps, answer.sweep.conditions.dataset.digest
    every = [KeptNetwork(path, record, answer.sweep.study) for path, record in list_kept_weights(folder)]
    every = [n for n in every if n.record.digest == digest]
    kept = [n for n in every if n.record.spec.configuration == answer.configuration]
    learned = [n for n in kept if n.record.collapse.learned]
    trained = [n for n in learned if n.record.spec.purpose == "train"]
    if trained:
        return max(trained, key=lambda network: (network.path.stat().st_mtime_ns, network.path.name))
    final = [r for r in answer.sweep.final if r.spec.loss == answer.loss and not r.has_collapsed]
    values = {r.spec.key: r.value or 0.0 for r in final}
    of_study = [n for n in every if n.record.spec.purpose == "final" and n.record.spec.key in values]
    if of_study:
        return max(of_study, key=lambda network: values[network.record.spec.key])
    as_long = [n for n in kept if n.record.spec.steps == steps]
    confirmed = [n for n in as_long if n.record.spec.is_tested]
    if not confirmed:
        return None
    record = confirmed[-1].record.model_copy(update={"point": answer.point})
    return confirmed[-1]._replace(record=record)
