"""The confirmation as work: the trainings of one round after the other, and of the next seed for idle workers.

An interim analysis weighs its planned seeds alone. What idle workers began before is weighed once it is planned, so
that the number of workers changes no answer; where it is not needed any more, it is stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from typing import NamedTuple

import optuna

from sweeper.core.events import NOT_NEEDED, JobResult, Observer, TrainingDropped, TrainingJob
from sweeper.core.records import TrialResult, TrialSpec
from sweeper.storage.results import list_extra_results
from sweeper.study.training_list import Key, TrainingList, index_completed, training_key


class RaceRound(NamedTuple):
    """Trainings that an interim analysis waits for."""

    number: int
    """Number of the interim analysis."""
    specs: Sequence[TrialSpec]
    """All trainings that it rests on, apart from those of finalists that were dropped."""
    ahead: Sequence[TrialSpec]
    """All that the next one would rest on, if it came with the same finalists."""


Rounds = Generator[RaceRound, bool, None]
"""Gives rounds, and is sent whether their trainings have all ended; False when the time is up."""


class Race(TrainingList):
    """Trainings round by round; what failed is tried once a session.

    Each has its place's number, whatever the number of workers, so that an interrupted race numbers its trainings as
    one that was not.
    """

    def __init__(
        self,
        study: optuna.Study,
        rounds: Rounds,
        places: Sequence[TrialSpec],
        *,
        recorder: Observer,
        admit: Callable[[int], bool],
        begun: Callable[[RaceRound, int], None],
    ) -> None:
        """Take the rounds up to the first for which trainings are missing.

        Args:
            study: keeps the results.
            rounds: what is trained.
            places: every training that there may be, in the order of their numbers.
            recorder: observer of the trainings.
            admit: takes a number of steps; returns whether such a training may still begin.
            begun: receives each round, and how many of its trainings are missing.
        """
        super().__init__(study, (), recorder=recorder, admit=admit)
        self._rounds, self._begun = rounds, begun
        self._places = {training_key(spec): place for place, spec in enumerate(places)}
        self._tried: set[Key] = set()
        self._wanted: set[Key] = set()
        self._next_seed: list[TrialSpec] = []
        self._over = False
        self._skip_complete_rounds(lambda: next(self._rounds))

    @property
    def is_over(self) -> bool:
        """Whether the last round has been analysed."""
        return self._over

    @property
    def is_round_complete(self) -> bool:
        """Whether every training of the round has ended."""
        return not any(training_key(spec) in self._wanted for spec in (*self._queue, *self._running.values()))

    def next(self) -> TrainingJob | None:
        """Return the next training of the round; if all of them run, the first of the next seed."""
        if not self._going and not self._queue and self._running and self._next_seed:
            self._queue = self._next_seed[:1]
        job = super().next()
        if job is not None:
            self._tried.add(training_key(job.spec))
            self._next_seed = [other for other in self._next_seed if training_key(other) != training_key(job.spec)]
        return job

    def take_answer(self, answer: JobResult) -> bool:
        """Take a result; a training that an idle worker began early ends if its finalist was dropped."""
        ended, spec = super().take_answer(answer), answer.result.spec
        if ended or training_key(spec) in self._wanted | self._likely:
            return ended
        self._going.remove(spec)
        self._running.pop(spec.number, None)
        self._tried.discard(training_key(spec))
        self._recorder.notify(TrainingDropped(spec, NOT_NEEDED, died=False))
        return True

    def store_result(self, spec: TrialSpec, result: TrialResult) -> None:
        """Store a result; after the last one of a round begin the next round."""
        super().store_result(spec, result)
        if not self._over and self.is_round_complete:
            self._skip_complete_rounds(lambda: self._rounds.send(True))

    def handle_dead_worker(self, spec: TrialSpec, reason: str) -> None:
        """Try once more; then it failed."""
        super().handle_dead_worker(spec, reason)
        if spec in self._queue:
            self._tried.discard(training_key(spec))

    def analyse_cut_round(self) -> None:
        """Analyse what is finished when the time is up."""
        with suppress(StopIteration):
            self._rounds.send(False)

    def _skip_complete_rounds(self, following: Callable[[], RaceRound]) -> None:
        """Analyse rounds of which nothing is missing at once."""
        while not self._over:
            try:
                self._begin_round(following())
            except StopIteration:
                self._over = True
                return
            if not self.is_round_complete:
                return
            following = lambda: self._rounds.send(True)  # noqa: E731

    def _begin_round(self, round_: RaceRound) -> None:
        results = list_extra_results(self._study, "confirm")
        have, used_numbers = index_completed(results), {result.spec.number for result in results}
        running = {training_key(spec) for spec in self._running.values()}

        def missing(specs: Sequence[TrialSpec]) -> list[TrialSpec]:
            gone = {*have, *running, *self._tried}
            return [self._assign_number(spec, used_numbers) for spec in specs if training_key(spec) not in gone]

        self._wanted, self._likely = ({training_key(spec) for spec in specs} for specs in (round_.specs, round_.ahead))
        self._queue = missing(round_.specs)
        self._next_seed = [spec for spec in missing(round_.ahead) if training_key(spec) not in self._wanted]
        self._begun(round_, len(self._queue) + len(self._wanted & running))

    def _assign_number(self, spec: TrialSpec, used_numbers: set[int]) -> TrialSpec:
        """Return the training with its place, or the next free one, as its number."""
        number = self._places[training_key(spec)]
        while number in used_numbers:
            number += len(self._places)
        return spec.model_copy(update={"number": number})
