"""When a sweep stops because its trainings fail one after the other: the rule alone."""

from __future__ import annotations

from sweeper.core.errors import ExecutorError
from sweeper.core.records import TrialResult

IN_A_ROW = 8
"""So many failures in a row, beyond one for each worker, and nothing more is begun: what fails everything (a full
memory, a GPU in an error state, images that are gone) would use up the trials."""


class Failures:
    """Counts trainings that failed, or whose worker died, since the last one that gave a result.

    Workers that are lost all at once, as with a node of a cluster, count once each; so the limit grows with them.
    """

    def __init__(self) -> None:
        self._count = 0
        self._reason = ""

    def see(self, result: TrialResult) -> None:
        """A training ended, or waits, with this result."""
        if result.state == "failed":
            self.lost(result.reason or "no reason is known")
        else:
            self._count = 0

    def lost(self, reason: str) -> None:
        """A worker was lost."""
        self._count, self._reason = self._count + 1, reason

    def check(self, workers: int) -> None:
        """Stop if there were too many for so many workers.

        Raises:
            ExecutorError: if so.
        """
        if self._count >= IN_A_ROW + workers:
            raise ExecutorError(
                f"{self._count} trainings in a row failed, and at most {IN_A_ROW + workers - 1} may with {workers} "
                f"at a time; the last: {self._reason}"
            )
