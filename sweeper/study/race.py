"""The confirmation as work: the trainings of one round after the other, and of the next seed for idle workers.

An interim analysis weighs its planned seeds alone. What idle workers began before is weighed once it is planned, so
that the number of workers changes no answer; where it is not needed any more, it is stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from typing import NamedTuple

import optuna

from sweeper.core.events import NOT_NEEDED, Advanced, Dropped, Job, Observer
from sweeper.core.records import TrialResult, TrialSpec
from sweeper.storage.results import extra_results
from sweeper.study.training_list import Batch, Key, completed, key_of


class Round(NamedTuple):
    """What an interim analysis waits for."""

    number: int
    """Of the interim analysis."""
    specs: Sequence[TrialSpec]
    """All trainings that it rests on, apart from those of finalists that were dropped."""
    ahead: Sequence[TrialSpec]
    """All that the next one would rest on, if it came with the same finalists."""


Rounds = Generator[Round, bool, None]
"""Gives rounds, and is sent whether their trainings have all ended; False when the time is up."""


class Race(Batch):
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
        begun: Callable[[Round, int], None],
    ) -> None:
        """Take the rounds up to the first for which trainings are missing.

        Args:
            study: keeps the results.
            rounds: what is trained.
            places: every training that there may be, in the order of their numbers.
            recorder: is told of trainings.
            admit: of so many steps = whether a training may still begin.
            begun: is told a round, and how many of its trainings are missing.
        """
        super().__init__(study, (), recorder=recorder, admit=admit)
        self._rounds, self._begun = rounds, begun
        self._places = {key_of(spec): place for place, spec in enumerate(places)}
        self._tried: set[Key] = set()
        self._wanted: set[Key] = set()
        self._next_seed: list[TrialSpec] = []
        self._over = False
        self._take(lambda: next(self._rounds))

    @property
    def over(self) -> bool:
        """Whether the last round has been analysed."""
        return self._over

    @property
    def complete(self) -> bool:
        """Whether every training of the round has ended."""
        return not any(key_of(spec) in self._wanted for spec in (*self._queue, *self._running.values()))

    def next(self) -> Job | None:
        """The next training of the round; where all of them run, the first of the next seed."""
        if not self._going and not self._queue and self._running and self._next_seed:
            self._queue = self._next_seed[:1]
        job = super().next()
        if job is not None:
            self._tried.add(key_of(job.spec))
            self._next_seed = [other for other in self._next_seed if key_of(other) != key_of(job.spec)]
        return job

    def advanced(self, answer: Advanced) -> bool:
        """What an idle worker began ends where its finalist was dropped."""
        ended, spec = super().advanced(answer), answer.result.spec
        if ended or key_of(spec) in self._wanted | self._likely:
            return ended
        self._going.remove(spec)
        self._running.pop(spec.number, None)
        self._tried.discard(key_of(spec))
        self._recorder.notify(Dropped(spec, NOT_NEEDED, died=False))
        return True

    def finished(self, spec: TrialSpec, result: TrialResult) -> None:
        """Store it; after the last of a round go on to the next."""
        super().finished(spec, result)
        if not self._over and self.complete:
            self._take(lambda: self._rounds.send(True))

    def died(self, spec: TrialSpec, reason: str) -> None:
        """Try once more; then it failed."""
        super().died(spec, reason)
        if spec in self._queue:
            self._tried.discard(key_of(spec))

    def cut(self) -> None:
        """The time is up: what is there is analysed."""
        with suppress(StopIteration):
            self._rounds.send(False)

    def _take(self, following: Callable[[], Round]) -> None:
        """Rounds of which nothing is missing are analysed at once."""
        while not self._over:
            try:
                self._begin(following())
            except StopIteration:
                self._over = True
                return
            if not self.complete:
                return
            following = lambda: self._rounds.send(True)  # noqa: E731

    def _begin(self, found: Round) -> None:
        results = extra_results(self._study, "confirm")
        have, taken = completed(results), {result.spec.number for result in results}
        running = {key_of(spec) for spec in self._running.values()}

        def missing(specs: Sequence[TrialSpec]) -> list[TrialSpec]:
            gone = {*have, *running, *self._tried}
            return [self._numbered(spec, taken) for spec in specs if key_of(spec) not in gone]

        self._wanted, self._likely = ({key_of(spec) for spec in specs} for specs in (found.specs, found.ahead))
        self._queue = missing(found.specs)
        self._next_seed = [spec for spec in missing(found.ahead) if key_of(spec) not in self._wanted]
        self._begun(found, len(self._queue) + len(self._wanted & running))

    def _numbered(self, spec: TrialSpec, taken: set[int]) -> TrialSpec:
        """With its place for a number; a failed training, or one of other finalists, may have that already."""
        number = self._places[key_of(spec)]
        while number in taken:
            number += len(self._places)
        return spec.model_copy(update={"number": number})
