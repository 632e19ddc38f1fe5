"""The sweep's table as MLflow is to open it: tags of the experiment, which its pages call shared views.

MLflow 3's own table has the runs in the order they began, without a metric. A view says which columns are shown, in
which order and how wide, and what the rows are sorted by. It is read by MLflow's pages alone (`viewStateShareKey` in
the address, see core/paths.py), and has charts, too (`compareRunsMode=CHART` there);
tests/tracking/test_prepared_views.py opens it in a browser. A column of something that no run has is not shown.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Collection, Sequence
from typing import Any

from sweeper.core.paths import View

TAG = "mlflow.sharedViewState."
"""An experiment's tags of this beginning are its views."""
RUN_NAME, CREATED = "attributes.`Run Name`", "runDateAndNestInfo"
"""MLflow's own columns, which always come first."""
WIDTHS = {RUN_NAME: 190, CREATED: 105}
SHOWN_FIRST = ("gamma", "alpha", "pos_weight", "class_weight_power", "mix")
"""Coordinates that most people look for; others of the space follow."""


def make_prepared_views(free: Collection[str], metric: str = "miou", *, tried: str = "trial") -> dict[str, str]:
    """Tags of the experiment, one per view.

    Args:
        free: coordinates of the losses that are searched or compared.
        metric: that trainings are compared by.
        tried: tag `sweeper.kind` of the trainings that chose parameters and rates.

    Returns:
        Tag name → view as MLflow writes it itself: JSON, compressed by zlib, in base64.
    """
    coordinates = [*(n for n in SHOWN_FIRST if n in free), *sorted({*free}.difference(SHOWN_FIRST))]
    score = "miou" if metric == "miou" else "value"
    curves = {"type": "LINE", "selectedMetricKeys": [f"val/{score}", f"val_part/{score}"], "lineSmoothness": 0}
    # MLflow leaves a run out of a chart where it lacks a parameter of it: so there is a chart for each parameter.
    columns = [["loss.family", "lr"], *(["loss.family", f"loss.{name}", "lr"] for name in coordinates)]
    searches = [{"type": "PARALLEL", "selectedParams": each, "selectedMetrics": [f"val/{score}"]} for each in columns]
    trainings = {
        **_make_view(coordinates, score, order=f"val/{score}", filtered="tags.`sweeper.kind` != 'sweep'"),
        # In one column: parallel coordinates half as wide have axes whose names overlap.
        **_make_charts("Search", [searches[0], curves, *searches[1:]], columns=1),
    }
    finalists = {
        **_make_view(coordinates, score, order=f"test/{score}", filtered="tags.`sweeper.kind` = 'confirm'"),
        **_make_charts("Finalists", [{"type": "BAR", "metricKey": f"test/{score}"}, curves]),
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "param", "groupByData": "loss.family"}]},
    }
    views: dict[View, dict[str, Any]] = {
        "sweep": trainings,
        "search": {**trainings, "searchFilter": f"tags.`sweeper.kind` = '{tried}'"},
        "finalists": finalists,
    }
    return {f"{TAG}{name}": _pack_view(view) for name, view in views.items()}


def _make_view(coordinates: Sequence[str], score: str, *, order: str, filtered: str) -> dict[str, Any]:
    columns = {
        "params.`loss.family`": 95,
        "tags.`sweeper.state`": 98,
        f"metrics.`val/{score}`": 82,
        f"metrics.`test/{score}`": 78,
        "metrics.`val/miou`": 82,
        "metrics.`test/miou`": 78,
    }
    columns |= {f"params.`loss.{name}`": 84 for name in coordinates}
    columns |= {
        "params.`lr`": 70,
        "params.`lr_factor`": 70,
        "params.`seed`": 60,
        "tags.`sweeper.kind`": 80,
        "tags.`sweeper.collapse`": 90,
    }
    widths = {**WIDTHS, **columns}
    return {
        "searchFilter": filtered,
        "orderByKey": f"metrics.`{order}`",
        "orderByAsc": False,
        "selectedColumns": list(columns),
        "columnOrder": list(widths),
        "columnWidths": widths,
        "runsHiddenMode": "SHOW_ALL",  # in MLflow's charts, whose default draws the first ten
    }


def _make_charts(section: str, charts: Sequence[dict[str, Any]], columns: int = 2) -> dict[str, Any]:
    """Return a view's charts, in a section that is open; MLflow puts one of each other metric into the closed ones."""
    kinds = ("", "/iou", "/precision", "/recall")
    closed = (*(f"{split}{kind}" for split in ("test", "val", "val_part") for kind in kinds), "train", "Model metrics")
    return {
        "compareRunCharts": [
            {"uuid": f"{number}", "metricSectionId": section, **chart} for number, chart in enumerate(charts)
        ],
        "compareRunSections": [
            {"uuid": name, "name": name, "display": name == section, "columns": columns} for name in (section, *closed)
        ],
        "isAccordionReordered": True,  # else MLflow sorts the sections by name
    }


def _pack_view(view: dict[str, Any]) -> str:
    text = json.dumps(view, separators=(",", ":"), sort_keys=True)
    return "deflate;" + base64.b64encode(zlib.compress(text.encode(), 9)).decode()
