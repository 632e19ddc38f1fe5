"""Loss × decision rule × metric of finished studies, from their storage alone; nothing is trained.

    python bench/decision_rules.py DATABASE.db [DATABASE.db …]
    python bench/decision_rules.py --classes DATA [DATA …] [--losses cross_entropy,dice_ce] [--steps 300] [--seeds 3]

Rows are finalists. Each cell is the score, and behind it the gain over `plain` with its 95 % interval over seeds and
images. `best` is the loss that reads highest under the rule, with its lead over the best one at `plain`. Under the
tables: what RankDice gains over `tuned`, and the calibration error before and after. At the end: what `predict_each`
of the code to paste takes, in processor time of one thread.

`--classes` trains, of each data set of several classes, some losses without a search, and
compares rules for several classes on the test images, with the intervals above: argmax (`plain`), one τ (`tuned`),
argmax of calibrated probabilities, and RankDice and RankIoU by rankseg's rule for classes that exclude each other
(Wang & Dai, NeurIPS 2025): each class takes, by itself, the most probable pixels up to the number of the highest
expected score; a pixel that several classes take, or none, goes to the class to whose score it adds most. τ is chosen,
and the calibration fitted, on validation images.
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
from sweeper.core import metrics
from sweeper.core.recipe import Recipe
from sweeper.core.records import Conditions, DecisionRules, Evidence, Interval, Split, TrialSpec
from sweeper.data import divide_images, load_dataset
from sweeper.evidence.intervals import compute_paired_interval, make_image_table
from sweeper.evidence.mask_rules import score_decision_rules
from sweeper.fingerprint.imbalance import compute_imbalance
from sweeper.losses import make_snippet
from sweeper.space import get_default_space_name, load_space, make_default_choice
from sweeper.training.final_training import FinalTraining
from sweeper.training.training_context import open_context
from sweeper.workflow.conclude import draw_conclusion
from sweeper.workflow.confirmation_evidence import list_test_groups


def format_gain(value: Interval) -> str:
    return f"{value.estimate:+.3f} [{value.low:+.3f}, {value.high:+.3f}]"


def tables(found: DecisionRules, evidence: Evidence) -> list[str]:
    names = [finalist.family for finalist in evidence.finalists]
    lines = []
    for metric in dict.fromkeys(rule.metric for rule in found.rules):
        rules = [rule for rule in found.rules if rule.metric == metric]
        lines += ["", f"| {metric} | {' | '.join(rule.name for rule in rules)} |", "|:--|" + "--:|" * len(rules)]
        for i, name in enumerate(names):
            cells = [
                f"{r.scores[i].estimate:.3f}" + ("" if r.name == "plain" else f" ({format_gain(r.gains[i])})")
                for r in rules
            ]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        leads = [names[r.best] + ("" if r.best == rules[0].best else f" ({format_gain(r.lead)})") for r in rules]
        lines.append(f"| *best* | {' | '.join(leads)} |")
        spread = [max(r.scores[i].estimate for i in range(len(names))) for r in rules]
        by_loss = max(s.estimate for s in rules[0].scores) - min(s.estimate for s in rules[0].scores)
        lines += ["", f"best plain loss over the worst: {by_loss:.3f}; best rule over plain, each with its best loss: "
                  f"{max(spread) - spread[0]:+.3f}"]  # fmt: skip
    ranked = next((r for r in found.rules if (r.name, r.metric) == ("rank_dice", "image_dice")), None)
    if ranked is not None:
        gains = [f"{name} {format_gain(gain)}" for name, gain in zip(names, ranked.over_tuned, strict=True)]
        lines += [f"RankDice over tuned, image_dice, {100 * found.level:.4g} %: {'; '.join(gains)}"]
    for i, name in enumerate(names if found.ece else ()):
        lines.append(
            f"{name}: slope {found.slopes[i]:.2f}, bias {found.biases[i]:+.2f}; calibration error "
            f"{found.ece[i].estimate:.4f} → {found.ece_calibrated[i].estimate:.4f}, less by "
            f"{format_gain(found.ece_gains[i])}"
        )
    return lines


def seconds_of(side: int, repeats: int = 5) -> float:
    """Return the least processor time of `predict_each` on one thread, for logits of a trained network."""
    torch.set_num_threads(1)
    made: dict[str, Any] = {}
    exec(make_snippet("dice", {}, "binary", ["ground", "crack"], point=0.5, each=(0.6, -1.0)), made)
    logits = 3 * torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(0)) - 4
    taken = []
    for _ in range(repeats):
        started = time.process_time()
        made["predict_each"](logits)
        taken.append(time.process_time() - started)
    return min(taken)


def rank_classes(probabilities: Tensor, metric: str) -> Tensor:
    """Return the labels (P,) of probabilities (C, P) by rankseg's rule, for `dice` or `iou`."""
    pixels = probabilities.shape[1]
    ranked, order = probabilities.sort(dim=1, descending=True)
    mean, sums, sizes = probabilities.sum(1, keepdim=True), ranked.cumsum(1), torch.arange(1, pixels + 1)
    scores = 2 * sums / (mean + sizes + 1) if metric == "dice" else sums / (mean - sums + sizes)
    may_occur = ranked[:, :1] > 0.5
    is_within = (sizes <= 1 + scores.argmax(1, keepdim=True)) & may_occur
    takes = torch.zeros_like(probabilities, dtype=torch.bool).scatter(1, order, is_within)
    alone = takes & (takes.sum(0) == 1)
    right, size = (probabilities * alone).sum(1, keepdim=True), alone.sum(1, keepdim=True)
    if metric == "dice":
        whole = size + mean + 1
        gain = 2 * ((right + probabilities) / (whole + 1) - right / whole)
    else:
        whole = size + mean - right
        gain = (right + probabilities) / (whole - probabilities + 1) - right / whole
    labels = gain.masked_fill(~may_occur, -torch.inf).argmax(0)
    return torch.where(takes.sum(0) == 1, takes.int().argmax(0), labels)


def count_labels(labels: Tensor, truth: Tensor, classes: int) -> np.ndarray:
    """Return the counts (C, 3) of the labels (P,) of an image."""
    both = torch.bincount(truth * classes + labels, minlength=classes**2).view(classes, classes).numpy()
    return np.stack([both.diagonal(), both.sum(0) - both.diagonal(), both.sum(1) - both.diagonal()], -1)


def count_rules(training: FinalTraining, split: Split, groups: Callable[[tuple[int, ...]], Any]) -> dict[str, Any]:
    """Return the test images' counts (n, C, 3) of each rule, by metric where a rule depends on it."""
    validation = training.score_images(tuple(split.val), None)
    test = training.score_images(tuple(split.test), None)
    fitted = None if validation is None else training.fit_calibration(validation)
    if validation is None or test is None or fitted is None:
        raise SystemExit("a training diverged")
    rules: dict[str, Any] = {"plain": metrics.count_at_point(test.counts, 0.0)}
    for metric in MEASURED:
        point = metrics.choose_point(validation.counts, metric, groups(validation.counts.images))
        rules["tuned", metric] = metrics.count_at_point(test.counts, point)
    ranked: dict[str, list[tuple[int, np.ndarray]]] = {name: [] for name in RANKED}
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
    return rules | {name: np.stack([c for _, c in sorted(rows, key=lambda r: r[0])]) for name, rows in ranked.items()}


MEASURED = ("miou", "image_dice", "image_iou")
RANKED = ("calibrated argmax", "RankDice", "RankIoU", "RankDice, not calibrated")


def compare_for_classes(data: str, arguments: argparse.Namespace, folder: Path) -> None:
    """Print the table of a data set of several classes."""
    dataset = load_dataset(data, folder, lambda line: None)
    split = divide_images(dataset, test_seed=0, seed=0)
    recipe = Recipe(size=arguments.size, confirm_steps=arguments.steps)
    context = open_context(Conditions(dataset=dataset, recipe=recipe, seed=0), "cpu")
    print(f"\n## {data}: {len(dataset.classes)} classes, {len(split.test)} test images, {arguments.seeds} seeds")
    space, names = load_space(get_default_space_name(dataset.task)), ["plain", "tuned", *RANKED]
    imbalance = compute_imbalance(dataset.count_class_pixels(split.train))
    families = [family for family in space.families if family.family in arguments.losses]
    params = {f.family: make_default_choice(f, space, imbalance).params for f in families}
    print(f"| | {' | '.join(names[:2])} | {' | '.join(f'{name} over tuned' for name in RANKED)} |")
    print("|:--|" + "--:|" * len(names))
    for loss in arguments.losses.split(","):
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
        for metric in MEASURED:
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
                format_gain(compute_paired_interval(tables[n].subtract(tables["tuned"]), (-1, 1))) for n in RANKED
            ]
            print(f"| {loss}, {metric} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", help="databases; with --classes data sets")
    parser.add_argument("--classes", action="store_true", help="train, and compare rules for several classes")
    parser.add_argument("--losses", default="cross_entropy,dice_ce")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--lr", type=float, default=3e-3)
    arguments = parser.parse_args()
    if arguments.classes:
        with tempfile.TemporaryDirectory() as folder:
            for data in arguments.sources:
                compare_for_classes(data, arguments, Path(folder))
        return
    for path in map(Path, arguments.sources):
        opened = storage.open_storage(f"sqlite:///{path.resolve()}", create=False)
        for name in storage.list_study_names(opened):
            sweep = storage.load_sweep(opened, name)
            evidence = draw_conclusion(sweep).evidence
            if evidence is None:
                continue
            groups = list_test_groups(sweep.conditions, sweep.confirmations)
            found = score_decision_rules(sweep.confirmations, evidence, groups=groups)
            seeds = sorted({len(f.seeds) for f in evidence.finalists})
            print(f"\n## {name}: {sweep.conditions.dataset.name}, {evidence.test_images} test images"
                  f"{'' if evidence.test_groups is None else f' in {evidence.test_groups} groups'}, "
                  f"{' to '.join(map(str, seeds[:: max(1, len(seeds) - 1)]))} seeds")  # fmt: skip
            if found is not None:
                print("\n".join(tables(found, evidence)))
    print()
    for side in (256, 1024):
        print(f"predict_each: {1e3 * seconds_of(side):.0f} ms for an image of {side} × {side} pixels")


if __name__ == "__main__":
    main()
