"""Write the test counts of a study's confirmation as a table for `sweeper judge`.

    python bench/judge_example.py STUDY OUT.csv [--storage sqlite:///sweeper.db]

OUT.csv gets a row for each loss, seed, test image and class: tp, fp and fn at the training's own operating point. Takes
a few seconds. reports/example-judged/ was made with it, from

    sweeper run synthetic:street --trials 8 --steps 60 --size 64 --batch-size 4 --confirm-steps 120 \
        --seeds 3..3 --workers 1 --study street-judged
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

from sweeper.core import metrics
from sweeper.core.records import TrialResult
from sweeper.evidence.replicates import get_own_point
from sweeper.storage import load_sweep, open_storage

HEADER = ("method", "seed", "image", "class", "tp", "fp", "fn")


def list_rows(results: list[TrialResult], images: list[str], classes: list[str]) -> Iterator[tuple[object, ...]]:
    """Yield a row for each training, image and class."""
    for run in results:
        assert run.test is not None
        counts = metrics.count_at_point(run.test, get_own_point(run))
        for place, image in enumerate(run.test.images):
            for number, name in enumerate(classes):
                yield run.spec.family, run.spec.seed, images[image], name, *counts[place, number].tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("out", type=Path)
    parser.add_argument("--storage", default="sqlite:///sweeper.db")
    arguments = parser.parse_args()
    sweep = load_sweep(open_storage(arguments.storage, create=False), arguments.study)
    dataset = sweep.conditions.dataset
    runs = [run for run in sweep.confirmations if run.state == "complete"]
    with arguments.out.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(list_rows(runs, [image.stem for image in dataset.images], list(dataset.classes)))


if __name__ == "__main__":
    main()
