"""The choice that is pasted: of any validation set the point that sweeper's own counts and rules choose."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from sweeper.core.point_choice import find_best_point
from sweeper.core.records import Conditions, Dataset, ImageCounts
from sweeper.losses import choose_tau, choose_threshold, make_snippet
from sweeper.scripts.loss_file import make_loss_text
from sweeper.training.counters import HistogramCounter, MulticlassCounter
from sweeper.training.engine import StudyTraining
from sweeper.training.training_context import open_context
from tests.support.pasting import run_text
from tests.support.small_training import SMALL, spec, train_to_end

Batches = list[tuple[Tensor, Tensor]]
SUMMED = ("miou", "fg_iou", "dice")


def count_batches(batches: Batches, log_prior: Tensor) -> ImageCounts:
    """Return what sweeper counts of these batches."""
    images = tuple(range(sum(len(target) for _, target in batches)))
    cpu = torch.device("cpu")
    counts: HistogramCounter | MulticlassCounter = HistogramCounter(images, (), cpu)
    if len(log_prior) > 2:
        counts = MulticlassCounter(images, len(log_prior), cpu, log_prior)
    start = 0
    for logits, target in batches:
        counts.add(torch.arange(start, start + len(target)), logits, target)
        start += len(target)
    return counts.make_counts()


def choose_point(batches: Batches, log_prior: Tensor, metric: str) -> float:
    iterator = iter(batches)  # any iterable, once
    return choose_threshold(iterator, metric) if len(log_prior) == 2 else choose_tau(iterator, log_prior, metric)


def draw_batches(seed: int, classes: int) -> Batches:
    """Return two to four batches of two sizes: few or coarse logits, so that points tie, and rare or absent classes."""
    random = np.random.default_rng(seed)
    batches = []
    for _ in range(random.integers(2, 5)):
        n, height, width = (int(v) for v in random.integers(1, 7, 3))
        target = np.minimum(random.geometric(random.uniform(0.3, 1), (n, height, width)) - 1, classes - 1)
        channels = 1 if classes == 2 else classes
        logits = random.normal(0, random.uniform(0.1, 9), (n, channels, height, width)) - random.uniform(-3, 3)
        logits[:, -1] += random.uniform(0, 4) * (target == classes - 1)
        if seed % 2:
            logits = np.round(logits * 2) / 2
        target[random.random(target.shape) < random.choice([0, 0.3])] = 255
        batches.append((torch.tensor(logits, dtype=torch.float32), torch.tensor(target)))
    return batches


@pytest.mark.parametrize(
    ("classes", "metric"), [*((2, name) for name in SUMMED), (3, "miou"), (3, "dice"), (6, "miou"), (6, "dice")]
)
def test_the_point_is_that_of_a_study(classes: int, metric: str) -> None:
    points = set()
    for seed in range(40):
        batches = draw_batches(seed, classes)
        shares = torch.bincount(torch.cat([t[t != 255] for _, t in batches]), minlength=classes).clamp(min=1).float()
        log_prior = (shares / shares.sum()).log()
        expected = find_best_point(count_batches(batches, log_prior), metric)[0]
        assert choose_point(batches, log_prior, metric) == expected, seed
        points.add(expected)
    assert len(points) > 4  # the plain one is not all there is


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("metric", ["miou", "dice"])
@pytest.mark.parametrize("case", ["all ignored", "no foreground", "foreground only", "constant", "beyond", "nan"])
def test_the_point_is_that_of_a_study_for_empty_masks_ties_and_broken_logits(
    classes: int, metric: str, case: str
) -> None:
    torch.manual_seed(3)
    target = torch.randint(0, classes, (2, 5, 7))
    logits = torch.randn(2, 1 if classes == 2 else classes, 5, 7)
    values = {"all ignored": 255, "no foreground": 0, "foreground only": 1}
    target = torch.full_like(target, values[case]) if case in values else target
    if case == "constant":
        logits = torch.zeros_like(logits)
    elif case == "beyond":
        logits = logits.sign() * 1e30
    elif case == "nan":
        logits[0, 0, :2] = float("nan")
        logits[1, 0, 0, 0] = float("inf")
    log_prior = torch.full((classes,), 1.0 / classes).log()
    expected = find_best_point(count_batches([(torch.nan_to_num(logits), target)], log_prior), metric)[0]
    assert choose_point([(logits.requires_grad_(), target.to(torch.uint8))], log_prior, metric) == expected
    assert choose_point([], log_prior, metric) == (0.5 if classes == 2 else 0)


def test_a_target_may_have_a_channel_and_two_classes_two_channels() -> None:
    batches = draw_batches(4, 2)
    pairs = [(torch.cat([0 * logits, logits], 1), target.unsqueeze(1)) for logits, target in batches]
    assert choose_threshold(pairs) == choose_threshold(batches) != 0.5


@pytest.mark.parametrize(("task", "classes"), [("binary", 2), ("multiclass", 3)])
def test_the_snippet_and_the_single_file_choose_the_point_of_a_study(
    task: Literal["binary", "multiclass"], classes: int
) -> None:
    shares = (90.0, 9.0, 1.0)[:classes]
    batches = draw_batches(4, classes)
    names = ["a", "b", "c"][:classes]
    snippet = run_text(make_snippet("dice", {}, task, names, shares, point=0.25))
    log_prior = snippet.get("log_prior", torch.zeros(2))
    point = find_best_point(count_batches(batches, log_prior))[0]
    module = run_text(make_loss_text("dice", {}, None))
    if task == "binary":
        assert snippet["choose_threshold"](batches) == module["choose_threshold"](batches) == point != 0.25
    else:
        assert snippet["choose_tau"](batches, log_prior) == module["choose_tau"](batches, log_prior) == point != 0.25
    answers = torch.cat([snippet["predict"](logits, point).flatten() for logits, _ in batches])
    assert answers.dtype == torch.long and len(answers.unique()) > 1
    text = make_snippet("dice", {}, task, names, shares, point=0.25, ignore_index=-1)
    assert "-1 = ignored" in text and "255" not in text
    relabelled = [(logits, torch.where(target == 255, -1, target)) for logits, target in batches]
    line = next(line for line in text.splitlines() if " = choose_" in line).partition(": ")[2]
    other = run_text(text) | {"model": lambda x: x, "validation_batches": relabelled}
    exec(line, other)
    assert other["threshold" if task == "binary" else "tau"] == point
    assert other["criterion"](*relabelled[0]) == snippet["criterion"](*batches[0])
    assert "choose_tau" not in make_loss_text("dice", {}, "binary") and "choose_threshold" in make_loss_text(
        "focal", {}, "binary"
    )


@pytest.mark.parametrize(
    ("metric", "line"),
    [
        ("miou", "# By mIoU: threshold = choose_threshold(((model(x), y) for x, y in validation_batches))"),
        ("image_dice", "# By mIoU: threshold = choose_threshold(((model(x), y) for x, y in validation_batches))"),
        ("dice", "# By Dice: threshold = choose_threshold(((model(x), y) for x, y in validation_batches), 'dice')"),
        (
            "fg_iou",
            "# By foreground IoU: threshold = choose_threshold(((model(x), y) for x, y in validation_batches), "
            "'fg_iou')",
        ),
    ],
)
def test_the_printed_call_chooses_by_the_metric_of_the_study_if_it_can(metric: str, line: str) -> None:
    text = make_snippet("dice", {}, "binary", ["a", "b"], point=0.3, metric=metric)
    assert line in text.splitlines()
    names = run_text(text) | {"model": lambda x: x, "validation_batches": draw_batches(4, 2)}
    exec(line.removeprefix("# ").partition(": ")[2], names)
    expected = metric if metric in SUMMED else "miou"
    assert (
        names["threshold"] == find_best_point(count_batches(names["validation_batches"], torch.zeros(2)), expected)[0]
    )


@pytest.mark.parametrize("scene", ["tiny", "tiny_street"])
def test_the_point_of_a_trained_network_is_that_of_its_training(scene: str, request: pytest.FixtureRequest) -> None:
    dataset: Dataset = request.getfixturevalue(scene)
    conditions = Conditions(dataset=dataset, recipe=SMALL, seed=0)
    training = StudyTraining(spec(lr=0.01), open_context(conditions, "cpu"))
    last = train_to_end(training).evaluations[-1]
    evaluator, model = training._evaluator, training._steps.average.model

    def predict_batches() -> Iterator[tuple[Tensor, Tensor]]:
        for _, logits, masks in evaluator._predict(model, training._split.val):
            yield logits, masks

    if dataset.task == "binary":
        assert choose_threshold(predict_batches()) == last.point
    else:
        assert choose_tau(predict_batches(), evaluator._log_prior) == last.point


def test_impossible_labels_shapes_and_metrics_are_refused() -> None:
    logits, target = torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long)
    for batch, words in (
        ((logits, target + 3), "labels 0 to 1, .* got 3;"),
        ((logits, target - 1), "got -1;"),
        ((logits, target[:, :2]), r"target \(N, H, W\), got \(1, 1, 4, 4\) and \(1, 2, 4\)"),
        ((logits.expand(1, 3, 4, 4), target), r"logits must be \(N, 1, H, W\)"),
    ):
        with pytest.raises(ValueError, match=words):
            choose_threshold([batch])
    with pytest.raises(ValueError, match=r"labels 0 to 2, .* got 3;"):
        choose_tau([(torch.zeros(1, 3, 2, 2), torch.tensor([[[0, 1], [2, 3]]]))], torch.zeros(3))
    with pytest.raises(ValueError, match="metric must be miou, fg_iou or dice, got image_dice"):
        choose_threshold([(logits, target)], "image_dice")
