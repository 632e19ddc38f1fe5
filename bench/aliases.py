"""A/A on real trainings: every family of the space is cross-entropy under another name, so that no claim can be true.

    python bench/aliases.py OUT.jsonl [--data synthetic:cracks] [--sweeps 40] [--first 0] [--trials 10] [--steps 60]
    python bench/aliases.py OUT.jsonl --twin …

Each sweep has a seed of its own (other splits, weights, proposals). That two names are one function is kept from it:
`sweeper.study.same_loss` would see through them and confirm one loss alone. The half of cross-entropy (`focal` with
`gamma` 0 and `alpha` ½) differs by rounding, which grows to the noise of another seed within some steps; the others
give the very same training at the same rate and seed. So a claim can come from two sources alone: from learning rates
that are not compared fairly, and from the noise of half of them. Can be cut off and continues where it was.

With `--twin` the space is cross-entropy and a loss of one's own that cannot be merged with it (`bench/twin.py`):
cross-entropy on a random 80 % of the pixels, which is equal in expectation and trains with noise of its own, so that
every pair of trainings differs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from sweeper.core.records import Verdict
from sweeper.study import same_loss
from sweeper.system.cores import count_available_cores
from sweeper.workflow.executor_choice import make_backend
from sweeper.workflow.run import run_sweep
from sweeper.workflow.settings import Settings
from tests.support.sweeping import Recorder

SPACE = """
version: 1
task: binary
nuisance: {lr: {log: [1.0e-4, 1.0e-2]}}
losses:
  cross_entropy: {}
  weighted_ce: {pos_weight: 1}
  focal: {gamma: 0, alpha: 0.5}
  dice_ce: {mix: 1, pos_weight: 1}
"""


TWIN = """
version: 1
task: binary
nuisance: {lr: {log: [1.0e-4, 1.0e-2]}}
losses: {cross_entropy: {}}
"""


def sweep(arguments: argparse.Namespace, seed: int, folder: Path) -> dict[str, object]:
    """Run one sweep in a folder of its own."""
    space = folder / "aliases.yaml"
    space.write_text(TWIN if arguments.twin else SPACE)
    settings = Settings(
        data=arguments.data,
        space=str(space),
        loss="bench.twin:Twin" if arguments.twin else None,
        trials=arguments.trials,
        steps=arguments.steps,
        size=arguments.size,
        seed=seed,
        executor="inline",
        confirm_seeds=arguments.confirm_seeds,
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
    found = outcome.recommendation
    assert found.evidence is not None
    names = [f.family for f in found.evidence.finalists]
    return {
        "seed": seed,
        "verdict": found.verdict.value,
        "finalists": {f.family: [f.miou.estimate, list(f.seed_lrs)] for f in found.evidence.finalists},
        "claims": [[names[c.first], names[c.second]] for c in found.evidence.comparisons if c.won],
        "largest": max((abs(c.difference.estimate) for c in found.evidence.comparisons), default=0.0),
        "constant": found.evidence.constant_miou,
        "seconds": time.monotonic() - started,
    }


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", default="synthetic:cracks")
    parser.add_argument("--sweeps", type=int, default=40)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--confirm-seeds", default="2..8")
    parser.add_argument("--twin", action="store_true", help="cross-entropy against its twin that cannot be merged")
    parser.add_argument("--first", type=int, default=0, help="seed of the first sweep")
    arguments = parser.parse_args()
    if not arguments.twin:
        same_loss.CLOSE = -1.0  # nothing is seen through
    rows = [json.loads(line) for line in arguments.out.read_text().splitlines()] if arguments.out.exists() else []
    for seed in range(len(rows), arguments.sweeps):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(sweep(arguments, arguments.first + seed, Path(folder)))
        with arguments.out.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
    claimed = sum(bool(row["claims"]) for row in rows)
    winners = sum(row["verdict"] == Verdict.CLEAR_WINNER.value for row in rows)
    differ = sum(row["largest"] > 0 for row in rows)
    print(
        f"{arguments.data}: {len(rows)} sweeps, {claimed} with a pairwise “better”, {winners} clear winners; finalists "
        f"differed at all in {differ}, by at most {max(row['largest'] for row in rows):.4f} mIoU"
    )


if __name__ == "__main__":
    main()
