"""Measure false claims in real trainings: every family of the space is cross-entropy under another name.

    python bench/aliases.py OUT.jsonl [--data synthetic:cracks] [--sweeps 40] [--first 0] [--trials 10] [--steps 60]
    python bench/aliases.py OUT.jsonl --twin …

Each sweep has its own seed, and so other splits, weights and proposals. `sweeper.study.same_loss`, which would merge
the aliases, is kept from detecting them. At the same learning rate and seed most aliases give exactly the same
training. The alias that is half of cross-entropy (`focal` with `gamma` 0 and `alpha` ½) differs by rounding, which
grows within some steps to the noise of another seed. So a claim can only come from this noise, or from learning rates
that are not compared fairly.

With `--twin` the space has cross-entropy and a user's loss that cannot be merged with it (bench/twin.py): cross-entropy
on a random 80 % of the pixels. Both are equal in expectation, but no two trainings are the same.

Prints the number of sweeps with a pairwise "better" and with the answer "change", which should be few, and of those in
which the finalists differed. OUT.jsonl gets a line for each sweep. To continue after an interruption, run it again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench.shared import append_row, resume_rows
from sweeper.core.records import Outcome
from sweeper.study import same_loss
from sweeper.system.machine import count_available_cores
from sweeper.workflow.executor_choice import make_backend
from sweeper.workflow.run import run_sweep
from sweeper.workflow.settings import Settings
from tests.support.sweeping import Recorder

ALIAS_SPACE = """
version: 1
task: binary
nuisance: {lr: {log: [1.0e-4, 1.0e-2]}}
losses:
  cross_entropy: {}
  weighted_ce: {pos_weight: 1}
  focal: {gamma: 0, alpha: 0.5}
  dice_ce: {mix: 1, pos_weight: 1}
"""

TWIN_SPACE = """
version: 1
task: binary
nuisance: {lr: {log: [1.0e-4, 1.0e-2]}}
losses: {cross_entropy: {}}
"""


def run_one_sweep(arguments: argparse.Namespace, seed: int, folder: Path) -> dict[str, object]:
    """Run a sweep in a folder; return its row."""
    space = folder / "aliases.yaml"
    space.write_text(TWIN_SPACE if arguments.twin else ALIAS_SPACE)
    settings = Settings(
        data=arguments.data,
        space=str(space),
        loss="bench.twin:Twin" if arguments.twin else None,
        trials=arguments.trials,
        steps=arguments.steps,
        size=arguments.size,
        seed=seed,
        workers=0,
        seeds=arguments.seeds,
        study="aliases",
        storage=f"sqlite:///{folder}/sweeper.db",
        tracking_uri=f"sqlite:///{folder}/mlflow.db",
        out=folder / "reports",
        cache=Path(".sweeper/cache"),
    )
    display, started = Recorder(), time.monotonic()
    backend = make_backend(settings, count_available_cores(), display.warn)
    outcome = run_sweep(
        settings, display, display, clock=lambda: datetime.now(UTC), cores=count_available_cores(), backend=backend
    )
    evidence = outcome.conclusion.evidence
    assert evidence is not None
    names = [finalist.family for finalist in evidence.finalists]
    return {
        "seed": seed,
        "outcome": outcome.conclusion.answer.outcome.value,
        "finalists": {each.family: [each.miou.estimate, list(each.seed_lrs)] for each in evidence.finalists},
        "claims": [[names[each.first], names[each.second]] for each in evidence.comparisons if each.won],
        "largest": max((abs(each.difference.estimate) for each in evidence.comparisons), default=0.0),
        "constant": evidence.constant_miou,
        "seconds": time.monotonic() - started,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", default="synthetic:cracks")
    parser.add_argument("--sweeps", type=int, default=40)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seeds", default="2..8")
    parser.add_argument("--twin", action="store_true", help="compare cross-entropy with its twin")
    parser.add_argument("--first", type=int, default=0, help="seed of the first sweep")
    arguments = parser.parse_args()
    if not arguments.twin:
        same_loss.CLOSE = -1.0  # no distance between gradients is below it
    rows = resume_rows(arguments.out)
    for seed in range(len(rows), arguments.sweeps):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(run_one_sweep(arguments, arguments.first + seed, Path(folder)))
        append_row(arguments.out, rows[-1])
    claimed = sum(bool(row["claims"]) for row in rows)
    changes = sum(row["outcome"] == Outcome.CHANGE.value for row in rows)
    differ = sum(row["largest"] > 0 for row in rows)
    print(
        f"{arguments.data}: {len(rows)} sweeps, {claimed} with a pairwise “better”, {changes} with the answer change; "
        f"the finalists differed in {differ}, by at most {max(row['largest'] for row in rows):.4f} mIoU"
    )


if __name__ == "__main__":
    main()
