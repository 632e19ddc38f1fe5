"""What more steps leave of a gain over cross-entropy: the ledger's sets at their steps and at four times as many.

    python bench/ladders.py collect OUT.jsonl [--part 1/2] [--seeds 2] [--point street …] [--data FOLDER …]
    python bench/ladders.py fill OUT.jsonl [OUT.jsonl …] > ledger.csv
    python bench/ladders.py kinds
    python bench/ladders.py studies [reports]

`collect` trains the ledger's losses on sets of several classes (cross-entropy, dice_ce and dice on those of two and on
real ones), each with its configuration in the ledger, at the ledger's learning rate, for the ledger's steps and for
four times as many, each with its schedule to the end. The losses are the same for all sets: each set's best would be a
lucky gain, which shrinks by itself. It appends a line for each training, can be cut off and continues where it was;
several processes share the work with `--part`. `fill` prints the shipped ledger with the gains at four times the steps.
`kinds` prints for each kind of set in the shipped ledger the mean gains at both lengths, and over all synthetic sets of
several classes the share that is left and how often a gain of at least `CLEAR` keeps its sign. `studies` prints the
latter of your own finished studies, from their longer looks.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench.ledger import CONFIGURATIONS, POINTS, Point
from bench.shared import BASELINE, compute_half_width, read_rows, resume_rows, select_part
from sweeper.fingerprint.ledger import LedgerRow, read_ledger, read_user_rows

TWO_CLASSES = (BASELINE, "dice_ce", "dice")
"""Losses on sets of two classes, where the loss hardly matters, and on real sets, which take long."""
TIMES = 4
CLEAR = 0.02
"""Gain from which its sign is counted: below it the sign is chance."""
LEAST_SETS = 3
"""Number of sets from which a mean has an interval."""
Kinds = dict[tuple[str, str], list[tuple[float, float]]]
"""Gains at both lengths, by kind of set and loss."""


def collect(arguments: argparse.Namespace) -> None:
    """Append one line for each training; sets of several classes first."""
    from sweeper.training.hardware import settle_process

    settle_process(threads=1)
    out = Path(arguments.out)
    rows = resume_rows(out)
    ledger = {(row.point, row.family): row for row in read_ledger()}
    points = sorted(POINTS, key=lambda name: ledger[name, BASELINE].task == "binary")
    for name in select_part(arguments.data or arguments.point or points, arguments.part):
        point, set_name = Point(name, rows, out), Path(name).name
        is_short = arguments.data or ledger[set_name, BASELINE].task == "binary"
        for seed in range(arguments.seeds):
            for family in TWO_CLASSES if is_short else CONFIGURATIONS:
                row = ledger[set_name, family]
                number = [_format_configuration(one) for one in CONFIGURATIONS[family]].index(row.params)
                for times in (1, TIMES):
                    point.train(family, number, seed, row.lr, times * row.steps)
        print(name, flush=True)


def _format_configuration(configuration: dict[str, float]) -> str:
    """Format a configuration like the ledger."""
    return " ".join(f"{name}={value:g}" for name, value in configuration.items())


def compute_gains(paths: Sequence[str]) -> dict[tuple[str, str], tuple[list[float], list[float]]]:
    """Compute the paired gains of each (set, loss) at both lengths, a value for each seed that has all trainings."""
    steps = {row.point: row.steps for row in read_ledger()}
    scores: dict[tuple[str, str, int, int], float] = {}
    for path in paths:
        for row in read_rows(path):
            name = Path(row["point"]).name
            scores[name, row["family"], row["seed"], row["steps"] // steps[name]] = row["test"]
    gains: dict[tuple[str, str], tuple[list[float], list[float]]] = {}
    for name, family, seed, times in scores:
        cells = [(name, one, seed, length) for length in (1, TIMES) for one in (family, BASELINE)]
        if family != BASELINE and times == 1 and all(cell in scores for cell in cells):
            short, base, longer, base_longer = (scores[cell] for cell in cells)
            before, after = gains.setdefault((name, family), ([], []))
            before.append(short - base)
            after.append(longer - base_longer)
    return gains


def print_kinds(arguments: argparse.Namespace) -> None:
    """Print the gains at both lengths for each kind of set in the shipped ledger, and a row for each loss over all."""
    families = [family for family in CONFIGURATIONS if family != BASELINE]
    kinds: dict[str, dict[str, list[tuple[float, float]]]] = {}
    over_all: Kinds = {}
    for row in read_ledger():
        if row.gain_longer is not None and row.family != BASELINE:
            is_real, pair = row.generator == "real", (row.gain, row.gain_longer)
            kind = row.point if is_real else f"{row.generator}, {row.task}"
            kinds.setdefault(kind, {}).setdefault(row.family, []).append(pair)
            if not is_real and row.task == "multiclass":
                over_all.setdefault(("all synthetic, multiclass", row.family), []).append(pair)
    print("| sets | number | " + " | ".join(families) + " |\n|---|--:|" + "--:|" * len(families))
    for kind, gains in kinds.items():
        means = {family: np.array(pairs).mean(axis=0) for family, pairs in gains.items()}
        cells = ["{:+.3f} → {:+.3f}".format(*means[family]) if family in means else "" for family in families]
        number = max(map(len, gains.values()))
        print(f"| {kind} | {number} | " + " | ".join(cells).replace("-", "−") + " |")
    print()
    _print_table(dict(sorted(over_all.items(), key=lambda item: families.index(item[0][1]))))


def print_studies(arguments: argparse.Namespace) -> None:
    """Print a row for each loss of the finished studies in a folder of reports that have a longer look."""
    kinds: Kinds = {}
    for row in read_user_rows(Path(arguments.reports)):
        if row.gain_longer is not None:
            for name in (row.point, f"all, {row.task}"):
                kinds.setdefault((name, row.family), []).append((row.gain, row.gain_longer))
    _print_table(kinds)


def _print_table(kinds: Kinds) -> None:
    print(f"| sets | loss | number | gain | gain at {TIMES} times the steps | share left | sign kept |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for (kind, family), pairs in kinds.items():
        before, after = np.array(pairs).T
        clear = np.abs(before) >= CLEAR
        kept = int((np.sign(before) == np.sign(after))[clear].sum())
        share = f"{after.mean() / before.mean():.2f}".replace("-", "−") if before.mean() >= CLEAR else "–"
        signs = f"{kept} of {int(clear.sum())}" if clear.any() else "–"
        cells = (kind, family, str(len(pairs)), _format_mean(before), _format_mean(after), share, signs)
        print("| " + " | ".join(cells) + " |")


def _format_mean(values: Any) -> str:
    """Format a mean with its 95 % interval over sets."""
    half = f" ± {compute_half_width(values):.3f}" if len(values) >= LEAST_SETS else ""
    return f"{values.mean():+.3f}{half}".replace("-", "−")


def print_ledger(arguments: argparse.Namespace) -> None:
    """Print the ledger with the mean gains at four times the steps."""
    gains = compute_gains(arguments.out)
    writer = csv.DictWriter(sys.stdout, list(LedgerRow.model_fields), lineterminator="\n")
    writer.writeheader()
    for row in read_ledger():
        _, after = gains.get((row.point, row.family), ([], []))
        longer = round(float(np.mean(after)), 4) if len(after) >= arguments.seeds else None
        values = row.model_copy(update={"gain_longer": longer}).model_dump()
        writer.writerow({name: "" if value is None else value for name, value in values.items()})


def main() -> None:
    """Collect, or print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    collecting = commands.add_parser("collect")
    collecting.add_argument("out")
    collecting.add_argument("--point", action="append", choices=list(POINTS))
    collecting.add_argument("--data", action="append", help="folders of the ledger's real sets, in place of the points")
    collecting.add_argument("--part", default="1/1")
    collecting.add_argument("--seeds", type=int, default=2)
    collecting.set_defaults(call=collect)
    filling = commands.add_parser("fill")
    filling.add_argument("out", nargs="+")
    filling.add_argument("--seeds", type=int, default=2)
    filling.set_defaults(call=print_ledger)
    commands.add_parser("kinds").set_defaults(call=print_kinds)
    studies = commands.add_parser("studies")
    studies.add_argument("reports", nargs="?", default="reports")
    studies.set_defaults(call=print_studies)
    arguments = parser.parse_args()
    arguments.call(arguments)


if __name__ == "__main__":
    main()
