"""What a shared study costs its leader: processor time of one poll of the queue, and of one whole training through it.

    python bench/shared.py                                  SQLite, in a temporary folder
    python bench/shared.py --storage postgresql://…         an empty PostgreSQL database

Everyone is in this process: workers that train nothing, but write their evaluations and results as they would.
Measured is the processor time of this process, which other programs on the machine hardly change; a server's own time
comes on top. A leader polls five times a second, so that it has 200 ms for each.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from optuna.trial import FrozenTrial, TrialState

from sweeper import storage as studies
from sweeper.executors.task_queue import RESULT, Queue
from tests import builders

POLLS = 20
WORKERS = (1, 4, 16, 64)
EVALUATIONS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", help="address of an empty database")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = arguments.storage or f"sqlite:///{folder}/study.db"
        studies.open_storage(url)
        print("| workers | a poll, ms (median) | a training, ms |\n|---:|---:|---:|")
        for workers in WORKERS:
            poll, training = measure(url, workers)
            print(f"| {workers} | {1000 * poll:.1f} | {1000 * training:.0f} |")


def measure(url: str, workers: int) -> tuple[float, float]:
    """Processor seconds of a poll while each of `workers` trains, and of a training from its start to its end."""
    queue = Queue(url, f"bench-{workers}")
    leader = queue.enter("leader")
    there = [queue.enter("worker", slots=1) for _ in range(workers)]
    result = builders.trial("dice", 0.6, 0).model_dump(mode="json")
    evaluation = builders.evaluation(25, 0.5).model_dump(mode="json")
    began = time.process_time()
    taken = [_begin(queue, leader, worker) for worker in there]
    polls = []
    for step in range(EVALUATIONS):
        for trial in taken:
            queue.write(trial._trial_id, f"evaluation/{step:02d}", {"evaluation": evaluation, "last": False})
            queue.write(trial._trial_id, f"answer/{step:02d}", "go")
        for _ in range(POLLS // EVALUATIONS):
            start = time.process_time()
            queue.trials()
            polls.append(time.process_time() - start)
    for trial in taken:
        queue.write(trial._trial_id, RESULT, result)
        queue.finish(trial, TrialState.COMPLETE)
    whole = time.process_time() - began - sum(polls)
    for worker in there:
        queue.leave(worker, TrialState.FAIL)
    queue.close()
    return statistics.median(polls), whole / workers


def _begin(queue: Queue, leader: FrozenTrial, worker: FrozenTrial) -> FrozenTrial:
    queue.put({"purpose": "search", "number": worker.number}, leader.number, None)
    waiting = [trial for trial in queue.trials() if trial.state == TrialState.WAITING]
    trial = queue.take(waiting, worker)
    assert trial is not None
    return trial


if __name__ == "__main__":
    main()
