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

from sweeper import storage as studies
from sweeper.executors.task_queue import Queue
from tests import builders
from tests.faking import new_plan

POLLS = 20
WORKERS = (1, 4, 16, 64)
EVALUATIONS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", help="address of an empty database")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = arguments.storage or f"sqlite:///{folder}/study.db"
        storage = studies.open_storage(url)
        print("| workers | a poll, ms (median) | a training, ms |\n|---:|---:|---:|")
        for workers in WORKERS:
            studies.create_study(storage, f"bench-{workers}", new_plan())
            poll, training = measure(url, workers)
            print(f"| {workers} | {1000 * poll:.1f} | {1000 * training:.0f} |")


def measure(url: str, workers: int) -> tuple[float, float]:
    """Processor seconds of a poll while each of `workers` trains, and of a training from its start to its end."""
    queue = Queue(url, f"bench-{workers}")
    leader = queue.enter("leader")
    there = [queue.enter("worker", slots=1) for _ in range(workers)]
    result, evaluation = builders.trial("dice", 0.6, 0), builders.evaluation(25, 0.5)
    began = time.process_time()
    taken = [_begin(queue, leader, worker) for worker in there]
    polls = []
    for step in range(EVALUATIONS):
        for training in taken:
            queue.tables.tell(training, step, evaluation, last=False)
            queue.tables.answer(training, step, "go")
        for _ in range(POLLS // EVALUATIONS):
            start = time.process_time()
            queue.tables.members()
            queue.tables.trainings(taken)
            polls.append(time.process_time() - start)
    for training in taken:
        queue.tables.end_training(training, "finished", result=result)
        queue.tables.remove([training])
    whole = time.process_time() - began - sum(polls)
    for worker in there:
        queue.leave(worker, "left")
    queue.close()
    return statistics.median(polls), whole / workers


def _begin(queue: Queue, leader: int, worker: int) -> int:
    queue.put(builders.spec("dice", worker), leader, None)
    taken = queue.take(list(queue.tables.trainings((), waiting=True).values()), worker)
    assert taken is not None
    return taken.id


if __name__ == "__main__":
    main()
