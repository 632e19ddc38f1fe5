"""Compare loss, decision rule and metric in finished studies, from their databases; nothing is trained.

    python bench/decision_rules.py DATABASE.db [DATABASE.db …]
    python bench/decision_rules.py --classes DATA [DATA …] [--losses cross_entropy,dice_ce] [--steps 300] [--seeds 3]

Prints for each study and metric a table: rows are finalists, columns rules. Each cell has the score, and the gain over
`plain` with its 95 % interval over seeds and images. `best` is the loss with the highest score under the rule, with its
lead over the loss that is best at `plain`. Below the tables are what RankDice gains over `tuned`, and the calibration
error before and after the calibration. At the end (also without a database) is the processor time of one thread that
`predict_each` of the code to paste takes. All this takes a minute or two.

With `--classes` it trains some losses on data sets of several classes, without a search, and compares rules on the test
images, with the same intervals: argmax (`plain`), one τ (`tuned`), argmax of calibrated probabilities, and RankDice and
RankIoU by rankseg's rule for classes that exclude each other (Wang & Dai, NeurIPS 2025). In this rule each class takes
the most probable pixels, as many as give the highest expected score. A pixel that several classes take, or none, goes
to the class to whose score it adds most. τ is chosen, and the calibration fitted, on validation images.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sweeper import storage
from sweeper.core import metrics, point_choice
from sweeper.core.calibration import ClassCalibration
from sweeper.core.recipe import Recipe
from sweeper.core.records import Conditions, DecisionRules, Evidence, Interval, Split, TrialSpec
from sweeper.data import divide_images, load_dataset
from sweeper.evidence.intervals import compute_paired_interval, make_image_table
from sweeper.evidence.mask_rules import score_decision_rules
from sweeper.fingerprint.imbalance import compute_imbalance
from sweeper.losses import make_snippet
from sweeper.space import load_space, make_default_choice
from sweeper.training.final_training import FinalTraining
from sweeper.training.training_context import open_context
from sweeper.workflow.conclude import draw_conclusion
from sweeper.workflow.confirmation_evidence import list_test_groups

METRICS = ("miou", "image_dice", "image_iou")
RANKED_RULES = ("calibrated argmax", "RankDice", "RankIoU", "RankDice, not calibrated")


def format_gain(value: Interval) -> str:
    """Return the estimate with its interval."""
    return f"{value.estimate:+.3f} [{value.low:+.3f}, {value.high:+.3f}]"


def list_tables(decisions: DecisionRules, evidence: Evidence) -> list[str]:
    """Return the lines of a study's tables, one for each metric, and of what is below them."""
    names = [finalist.family for finalist in evidence.finalists]
    lines = []
    for metric in dict.fromkeys(rule.metric for rule in decisions.rules):
        rules = [rule for rule in decisions.rules if rule.metric == metric]
        lines += ["", f"| {metric} | {' | '.join(rule.name for rule in rules)} |", "|:--|" + "--:|" * len(rules)]
        for i, name in enumerate(names):
            cells = [
                f"{rule.scores[i].estimate:.3f}" + ("" if rule.name == "plain" else f" ({format_gain(rule.gains[i])})")
                for rule in rules
            ]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        leads = [names[rule.best] + f" ({format_gain(rule.lead)})" * (rule.best != rules[0].best) for rule in rules]
        lines.append(f"| *best* | {' | '.join(leads)} |")
        best = [max(score.estimate for score in rule.scores) for rule in rules]
        by_loss = best[0] - min(score.estimate for score in rules[0].scores)
        by_rule = max(best) - best[0]
        lines += ["", f"best plain loss over the worst: {by_loss:.3f}; best rule over plain, each with its best loss: "
                  f"{by_rule:+.3f}"]  # fmt: skip
    ranked = next((r for r in decisions.rules if (r.name, r.metric) == ("rank_dice", "image_dice")), None)
    if ranked is not None:
        gains = [f"{name} {format_gain(gain)}" for name, gain in zip(names, ranked.over_tuned, strict=True)]
        lines += [f"RankDice over tuned, image_dice, {100 * decisions.level:.4g} %: {'; '.join(gains)}"]
    for i, name in enumerate(names if decisions.ece else ()):
        lines.append(
            f"{name}: slope {decisions.slopes[i]:.2f}, bias {decisions.biases[i]:+.2f}; calibration error "
            f"{decisions.ece[i].estimate:.4f} → {decisions.ece_calibrated[i].estimate:.4f}, less by "
            f"{format_gain(decisions.ece_gains[i])}"
        )
    return lines


def measure_snippet(side: int, repeats: int = 5) -> float:
    """Return the least seconds of one thread that `predict_each` takes for a square image of this side."""
    torch.set_num_threads(1)
    module: dict[str, Any] = {}
    exec(make_snippet("dice", {}, "binary", ["ground", "crack"], point=0.5, each=(0.6, -1.0)), module)
    logits = 3 * torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(0)) - 4
    times = []
    for _ in range(repeats):
        started = time.process_time()
        module["predict_each"](logits)
        times.append(time.process_time() - started)
    return min(times)


def rank_classes(probabilities: Tensor, metric: str) -> Tensor:
    """Return the labels (P,) of probabilities (C, P) by rankseg's rule, for the metric `dice` or `iou`."""
    pixels = probabilities.shape[1]
    ranked, order = probabilities.sort(dim=1, descending=True)
    mean, sums, sizes = probabilities.sum(1, keepdim=True), ranked.cumsum(1), torch.arange(1, pixels + 1)
    scores = 2 * sums / (mean + sizes + 1) if metric == "dice" else sums / (mean - sums + sizes)
    may_occur = ranked[:, :1] > 0.5
    is_within = (sizes <= 1 + scores.argmax(1, keepdim=True)) & may_occur
    takes = torch.zeros_like(probabilities, dtype=torch.bool).scatter(1, order, is_within)
    is_sole = takes & (takes.sum(0) == 1)
    right, size = (probabilities * is_sole).sum(1, keepdim=True), is_sole.sum(1, keepdim=True)
    if metric == "dice":
        total = size + mean + 1
        gain = 2 * ((right + probabilities) / (total + 1) - right / total)
    else:
        union = size + mean - right
        gain = (right + probabilities) / (union - probabilities + 1) - right / union
    labels = gain.masked_fill(~may_occur, -torch.inf).argmax(0)
    return torch.where(is_sole.any(0), takes.int().argmax(0), labels)


def count_labels(labels: Tensor, truth: Tensor, classes: int) -> np.ndarray:
    """Return the counts (C, 3) of an image from predicted and true labels (P,)."""
    pairs = torch.bincount(truth * classes + labels, minlength=classes**2).view(classes, classes).numpy()
    return np.stack([pairs.diagonal(), pairs.sum(0) - pairs.diagonal(), pairs.sum(1) - pairs.diagonal()], -1)


def count_rules(training: FinalTraining, split: Split, groups: Callable[[tuple[int, ...]], Any]) -> dict[Any, Any]:
    """Return the test images' counts (n, C, 3) by rule, or by rule and metric if a rule depends on the metric."""
    validation = training.score_images(tuple(split.val), None)
    test = training.score_images(tuple(split.test), None)
    fitted = None if validation is None else training.fit_calibration(validation)
    if validation is None or test is None or not isinstance(fitted, ClassCalibration):
        raise SystemExit("a training diverged")
    rules: dict[Any, Any] = {"plain": metrics.count_at_point(test.counts, 0.0)}
    for metric in METRICS:
        point = point_choice.choose_point(validation.counts, metric, groups(validation.counts.images))
        rules["tuned", metric] = metrics.count_at_point(test.counts, point)
    ranked: dict[str, list[tuple[int, np.ndarray]]] = {name: [] for name in RANKED_RULES}
    model, classes = training._steps.average.model, len(fitted.biases)
    for positions, logits, masks in training._evaluator._predict(model, tuple(split.test)):
        for position, image, mask in zip(positions.tolist(), logits, masks, strict=True):
            is_labelled = mask.flatten() != 255
            z, truth = image.flatten(1)[:, is_labelled], mask.flatten()[is_labelled]
            raw, p = z.softmax(0), (fitted.slope * z + torch.tensor(fitted.biases)[:, None]).float().softmax(0)
            for name, labels in (
                ("calibrated argmax", p.argmax(0)),
                ("RankDice", rank_classes(p, "dice")),
                ("RankIoU", rank_classes(p, "iou")),
                ("RankDice, not calibrated", rank_classes(raw, "dice")),
            ):
                ranked[name].append((position, count_labels(labels, truth, classes)))
    in_order = {name: sorted(pairs, key=lambda pair: pair[0]) for name, pairs in ranked.items()}
    return rules | {name: np.stack([counts for _, counts in pairs]) for name, pairs in in_order.items()}


def compare_for_classes(data: str, arguments: argparse.Namespace, folder: Path) -> None:
    """Train the losses on a data set of several classes, and print its table."""
    dataset = load_dataset(data, folder, lambda line: None)
    split = divide_images(dataset, test_seed=0, seed=0)
    recipe = Recipe(size=arguments.size, confirm_steps=arguments.steps)
    context = open_context(Conditions(dataset=dataset, recipe=recipe, seed=0), "cpu")
    print(f"\n## {data}: {len(dataset.classes)} classes, {len(split.test)} test images, {arguments.seeds} seeds")
    space, names = load_space(dataset.task), ["plain", "tuned", *RANKED_RULES]
    imbalance = compute_imbalance(dataset.count_class_pixels(split.train))
    params = {each.family: make_default_choice(each, space, imbalance).params for each in space.families}
    losses = arguments.losses.split(",")
    if unknown := [loss for loss in losses if loss not in params]:
        raise SystemExit(f"--losses takes families of the space ({', '.join(params)}), got {', '.join(unknown)}")
    print(f"| | {' | '.join(names[:2])} | {' | '.join(f'{name} over tuned' for name in RANKED_RULES)} |")
    print("|:--|" + "--:|" * len(names))
    for loss in losses:
        counts = []
        for seed in range(arguments.seeds):
            spec = TrialSpec(
                purpose="final", number=seed, family=loss, params=params[loss], lr=arguments.lr, seed=seed,
                steps=arguments.steps,
            )  # fmt: skip
            training = FinalTraining(spec, context, tuple(split.train))
            training.advance(arguments.steps)
            counts.append(count_rules(training, split, dataset.list_groups))
        groups = dataset.list_groups(tuple(split.test))
        for metric in METRICS:
            tables = {}
            for name in names:
                stacked = np.stack([each[name if name != "tuned" else (name, metric)] for each in counts])
                rows, units = metrics.make_image_rows(stacked, metric), metrics.number_units(groups)
                rows = rows if units is None else metrics.sum_by_unit(rows, units, metric)
                classes = metrics.find_present_classes(stacked.reshape(-1, *stacked.shape[2:]))
                measure = partial(metrics.compute_objective, classes=classes, metric=metric)
                tables[name] = make_image_table(rows, measure)
            cells = [f"{tables[n].scores.mean():.3f}" for n in ("plain", "tuned")]
            cells += [
                format_gain(compute_paired_interval(tables[n].subtract(tables["tuned"]), (-1, 1))) for n in RANKED_RULES
            ]
            print(f"| {loss}, {metric} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*", help="databases; with --classes data sets")
    parser.add_argument("--classes", action="store_true", help="train losses, and compare rules for several classes")
    parser.add_argument("--losses", default="cross_entropy,dice_ce")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--lr", type=float, default=3e-3)
    arguments = parser.parse_args()
    if arguments.classes and not arguments.sources:
        parser.error("--classes needs a data set")
    if arguments.classes:
        with tempfile.TemporaryDirectory() as folder:
            for data in arguments.sources:
                compare_for_classes(data, arguments, Path(folder))
        return
    for path in map(Path, arguments.sources):
        database = storage.open_storage(f"sqlite:///{path.resolve()}", create=False)
        for name in storage.list_study_names(database):
            sweep = storage.load_sweep(database, name)
            evidence = draw_conclusion(sweep).evidence
            if evidence is None:
                continue
            groups = list_test_groups(sweep.conditions, sweep.confirmations)
            decisions = score_decision_rules(sweep.confirmations, evidence, groups=groups)
            seeds = sorted({len(finalist.seeds) for finalist in evidence.finalists})
            in_groups = "" if evidence.test_groups is None else f" in {evidence.test_groups} groups"
            print(f"\n## {name}: {sweep.conditions.dataset.name}, {evidence.test_images} test images{in_groups}, "
                  f"{' to '.join(map(str, seeds[:: max(1, len(seeds) - 1)]))} seeds")  # fmt: skip
            if decisions is not None:
                print("\n".join(list_tables(decisions, evidence)))
    print()
    for side in (256, 1024):
        print(f"predict_each: {1e3 * measure_snippet(side):.0f} ms for an image of {side} × {side} pixels")


if __name__ == "__main__":
    main()
