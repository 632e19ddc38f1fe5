"""The metric for MMSegmentation of docs/judge.md, with a stand-in for the class that it extends."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

import sweeper
from tests.support.pasting import run_text

PAGE = Path(__file__).resolve().parents[2] / "docs" / "judge.md"
CLASSES = ("road", "car", "sky")
Labels = npt.NDArray[np.int64]


class IoUMetric:
    """Computes as that of MMSegmentation 1.2.2: four areas of each class for each image, summed at the end."""

    def __init__(self, ignore_index: int = 255) -> None:
        self.ignore_index = ignore_index
        self.results: list[Any] = []
        self.dataset_meta: dict[str, Any] = {}

    def process(self, data_batch: Any, data_samples: list[dict[str, Any]]) -> None:
        for sample in data_samples:
            answer, label = (sample[key]["data"].squeeze() for key in ("pred_sem_seg", "gt_sem_seg"))
            self.results.append(self.intersect_and_union(answer, label, len(self.dataset_meta["classes"])))

    def intersect_and_union(self, answer: Labels, label: Labels, classes: int) -> tuple[Labels, ...]:
        counted = label != self.ignore_index
        both, answered, labelled = (
            np.bincount(labels, minlength=classes)
            for labels in (answer[counted & (answer == label)], answer[counted], label[counted])
        )
        return both, answered + labelled - both, answered, labelled

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        both, union, _, _ = (sum(areas) for areas in zip(*results, strict=True))
        return {"mIoU": float((both / union).mean())}

    def evaluate(self, size: int) -> dict[str, float]:
        return self.compute_metrics(self.results[:size])


class Registry:
    def register_module(self) -> Any:
        return lambda registered: registered


@pytest.fixture
def metric(monkeypatch: pytest.MonkeyPatch) -> type[Any]:
    """Return `CountsPerImage` of the page."""
    for name, members in (
        ("mmseg", {}),
        ("mmseg.evaluation", {"IoUMetric": IoUMetric}),
        ("mmseg.registry", {"METRICS": Registry()}),
    ):
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    (code,) = [block for block in re.findall(r"```py\n(.*?)```", PAGE.read_text("utf-8"), re.S) if "mmseg" in block]
    return run_text(code)["CountsPerImage"]


def test_the_metric_of_the_page_writes_a_table_that_judge_scores_equally(metric: type[Any], tmp_path: Path) -> None:
    rng, scores, tables = np.random.default_rng(0), {}, []
    labels = rng.integers(0, len(CLASSES), (8, 1, 20, 20))
    labels[:, :, 0] = 255
    for method, wrong in (("a", 0.1), ("b", 0.2)):
        one = metric(out=str(tmp_path / f"{method}.csv"), method=method, seed=0)
        one.dataset_meta = {"classes": CLASSES}
        answers = np.where(rng.random(labels.shape) < wrong, rng.integers(0, 3, labels.shape), labels % 255)
        samples = [
            {"img_path": f"/data/{i}.png", "pred_sem_seg": {"data": answer}, "gt_sem_seg": {"data": label}}
            for i, (answer, label) in enumerate(zip(answers, labels, strict=True))
        ]
        for batch in (samples[:5], samples[5:]):
            one.process({}, batch)
        scores[method] = one.evaluate(len(labels))["mIoU"]
        tables.append(pd.read_csv(tmp_path / f"{method}.csv"))
    judgement = sweeper.judge(pd.concat(tables))
    assert judgement.answer.images == len(labels) and judgement.answer.use.loss == "a"
    assert {row.loss: row.mean for row in judgement.answer.losses} == pytest.approx(scores)
