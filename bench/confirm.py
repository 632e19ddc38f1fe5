"""Measure how often `sweeper confirm` is wrong, and what it adds to a training.

    python bench/confirm.py equal [--simulations 1000] [--losses 2] [--seeds 5] [--gap 0]
    python bench/confirm.py real [--sweeps 20] [--losses A,B] [--faults shuffles_unseeded] [--seeds 5]
    python bench/confirm.py overhead [--repetitions 7]

- `equal` draws the scores of images for trainings of several losses, and applies the interim analyses, the stop rule
  and the answer of `sweeper confirm`. Trainings of one loss spread by 0.01 (standard deviation); trainings with the
  same seed share half of this variance. The last loss is better by `--gap`. It prints how often the answer is "change",
  for paired and for unpaired trainings.
- `real` runs `sweeper confirm` on the tiny script of the tests, with other seeds each time, and prints each answer and
  how often it is "change". By default it compares two names of one function, and the order of the data does not repeat.
  With `--faults "widens_labels_of_cross_entropy_in_4 has_many_test_images trains_long"` cross-entropy learns wrong
  labels in four of twelve images, and its other name, weighted_ce, does not: a true gap. A comparison takes a minute or
  two.
- `overhead` prints the median seconds of a training that does nothing, started by sweeper and by itself, in turn, in a
  minute or two.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from sweeper.evidence.interim_analyses import DECIDING_SEEDS, plan_analyses
from sweeper.judging.judgement import judge_scores
from sweeper.judging.request import ScoreRequest
from sweeper.judging.rows import ScoreRows
from sweeper.losses.families import PRESENT
from sweeper.scripts.confirm import is_settled
from sweeper.scripts.scores import ScriptTask
from sweeper.scripts.starter import ScriptStarter
from sweeper.scripts.trainings import ScriptJob, ScriptLoss, ScriptTrainings

SPREAD, IMAGES = 0.01, 40
SCRIPT = """
from sweeper_trial import trial
import torch
t = trial(classes=["a", "b"])
z = torch.zeros(1, 1, 8, 8, requires_grad=True)
y = torch.zeros(1, 8, 8, dtype=torch.long)
t.loss(z, y)
t.score("val", ["v"], [0.5])
t.score("test", ["t"], [0.5])
"""


def draw_scores(rng: np.random.Generator, losses: int, seeds: int, gap: float) -> np.ndarray:
    """Draw scores (losses, seeds, images) in which the last loss is better by `gap`."""
    shared = rng.normal(0, SPREAD / 2**0.5, (1, seeds, 1))
    training = rng.normal(0, SPREAD / 2**0.5, (losses, seeds, 1))
    image = rng.normal(0, 0.1, (1, 1, IMAGES)) + rng.normal(0, 0.02, (losses, 1, IMAGES))
    scores = 0.6 + shared + training + image + rng.normal(0, 0.02, (losses, seeds, IMAGES))
    scores[-1] += gap
    return scores


def answer_comparison(scores: np.ndarray, *, paired: bool) -> tuple[str, int]:
    """Return the action, and the number of seeds after which the comparison ended."""
    names = [PRESENT, *(f"loss {n}" for n in range(1, len(scores)))]
    plan = plan_analyses(DECIDING_SEEDS, scores.shape[1])
    for analysis in plan:
        part = scores[:, : analysis.seeds]
        places = np.indices(part.shape).reshape(3, -1).tolist()
        columns = {
            "method": [names[n] for n in places[0]],
            "seed": [str(n) for n in places[1]],
            "image": [str(n) for n in places[2]],
            "score": part.ravel().tolist(),
        }
        request = ScoreRequest(present=PRESENT, margin=0.01, paired_seeds=paired)
        rows = ScoreRows(columns, "a simulation", design="Simulated.", analyses=plan)
        judgement = judge_scores(rows, request)
        if is_settled(judgement.contest):
            break
    return judgement.choice.outcome.value, analysis.seeds


def print_simulations(arguments: argparse.Namespace) -> None:
    """Print how often the answer is "change", for paired and for unpaired trainings."""
    for paired in (True, False):
        answers = []
        for number in range(arguments.simulations):
            rng = np.random.default_rng([number, arguments.losses])
            scores = draw_scores(rng, arguments.losses, arguments.seeds, arguments.gap)
            answers.append(answer_comparison(scores, paired=paired))
        changes = sum(action == "change" for action, _ in answers)
        print(
            f"{'paired' if paired else 'unpaired'}, {arguments.losses} losses, gap {arguments.gap:g}, up to "
            f"{arguments.seeds} seeds: change in {changes / len(answers):.1%} of {len(answers):,} comparisons, after "
            f"{statistics.mean(seeds for _, seeds in answers):.1f} seeds"
        )


def print_real_answers(arguments: argparse.Namespace) -> None:
    """Print the answer of each comparison, and how often it is "change"."""
    script = Path(__file__).parents[1] / "tests" / "support" / "own_training.py"
    actions = []
    for number in range(arguments.sweeps):
        with tempfile.TemporaryDirectory() as folder:
            words = [sys.executable, str(script), f"seeds+{100 * (number + 1)}", *arguments.faults.split()]
            command = ["--command", shlex.join(words), "--losses", arguments.losses, "--rates", "none", "--json"]
            command += ["--seeds", f"{DECIDING_SEEDS}..{arguments.seeds}"]
            run = subprocess.run(
                [sys.executable, "-m", "sweeper", "confirm", *command], cwd=folder, capture_output=True, text=True,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}, check=False,
            )  # fmt: skip
        document = json.loads(run.stdout)
        actions.append(document.get("outcome", "error"))
        print(f"{number + 1}: {document.get('outcome')} {document.get('gain') or run.stderr}", flush=True)
    print(f"change in {actions.count('change')} of {len(actions)} comparisons")


def print_overhead(arguments: argparse.Namespace) -> None:
    """Print the median seconds of a training that does nothing, by itself and by sweeper."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "train.py").write_text(SCRIPT, "utf-8")
        words = [sys.executable, str(folder / "train.py")]
        starter = ScriptStarter(shlex.join(words))
        task = ScriptTask(task="binary", kinds={"val": "score", "test": "score"}, metric="miou", class_pixels=(9, 1))
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        os.environ["PYTHONPATH"] = environment["PYTHONPATH"]
        times: dict[str, list[float]] = {"by itself": [], "by sweeper": []}
        loss = ScriptLoss(name="dice", family="dice", params={})
        for number in range(arguments.repetitions):
            began = time.monotonic()
            subprocess.run(words, env=environment, check=True, capture_output=True)
            times["by itself"].append(time.monotonic() - began)
            began = time.monotonic()
            ScriptTrainings(starter, folder, task).run([ScriptJob(loss, "confirm", number)])
            times["by sweeper"].append(time.monotonic() - began)
        medians = {name: statistics.median(values) for name, values in times.items()}
        extra = statistics.median(b - a for a, b in zip(*times.values(), strict=True))
        print(", ".join(f"{name} {median:.2f} s" for name, median in medians.items()), f"; added {extra:+.3f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    equal = commands.add_parser("equal")
    equal.add_argument("--simulations", type=int, default=1000)
    equal.add_argument("--losses", type=int, default=2)
    equal.add_argument("--seeds", type=int, default=5)
    equal.add_argument("--gap", type=float, default=0.0)
    equal.set_defaults(call=print_simulations)
    real = commands.add_parser("real")
    real.add_argument("--sweeps", type=int, default=20)
    real.add_argument("--losses", default="weighted_ce:pos_weight=1")
    real.add_argument("--faults", default="shuffles_unseeded")
    real.add_argument("--seeds", type=int, default=5)
    real.set_defaults(call=print_real_answers)
    overhead = commands.add_parser("overhead")
    overhead.add_argument("--repetitions", type=int, default=7)
    overhead.set_defaults(call=print_overhead)
    arguments = parser.parse_args()
    arguments.call(arguments)


if __name__ == "__main__":
    main()
