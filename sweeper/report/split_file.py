"""Which image trained, validated and tested: `split.csv` beside the report, and the same lists for the JSON.

The table is one that a data set may hold (docs/formats.md): put beside the images, it gives every later training the
same test images, so that nobody trains on them by accident.
"""

from __future__ import annotations

import csv
from pathlib import Path

from sweeper.core.records import Dataset, Split
from sweeper.report.tables import spreadsheet_text


def stems_of(dataset: Dataset, split: Split) -> dict[str, list[str]]:
    """Stems of the images that train, validate and test in the search, in the order of the data set.

    The test images are those of the confirmation, too; its seeds divide the others anew where no division is given.
    """
    sides = {"train": split.train, "val": split.val, "test": split.test}
    return {side: [dataset.pictures[i].stem for i in indices] for side, indices in sides.items()}


def write_split(dataset: Dataset, split: Split, path: Path) -> None:
    """Write `stem,split,group` of every image: the test images, and the sides that the data set itself gives.

    All else stays open: with training and validation fixed, later seeds would no longer divide the images anew.

    A stem or group that a spreadsheet would run as a formula gets a leading apostrophe, as in `trials.csv`; sweeper
    takes it off again where it reads the file.

    Raises:
        OSError: if the file cannot be written.
    """
    tested = set(split.test)
    rows = [
        [image.stem, image.split or ("test" if i in tested else ""), image.group or ""]
        for i, image in enumerate(dataset.pictures)
    ]
    rows += [[stem, "", ""] for stem in dataset.excluded]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["stem", "split", "group"])
        writer.writerows([spreadsheet_text(cell) for cell in row] for row in rows)
