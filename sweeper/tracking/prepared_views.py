"""Prepared views of the sweep's table in MLflow: tags of the experiment, which MLflow's pages call shared views.

MLflow 3's default table lists the runs in the order they began, without metrics. A view sets the columns, their order
and width, the sorting of the rows, and charts (`compareRunsMode=CHART` in the address). Only MLflow's pages read it
(`viewStateShareKey` in the address, see core/paths.py); tests/tracking/test_prepared_views.py opens it in a browser.
Columns without values are hidden.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Collection, Sequence
from typing import Any

from sweeper.core.paths import View

TAG = "mlflow.sharedViewState."
"""Prefix of the experiment's tags that are views."""
RUN_NAME, CREATED = "attributes.`Run Name`", "runDateAndNestInfo"
"""MLflow's own columns, which always come first."""
WIDTHS = {RUN_NAME: 190, CREATED: 105}
SHOWN_FIRST = ("gamma", "alpha", "pos_weight", "class_weight_power", "mix")
"""Coordinates of the first columns; the space's others follow."""


def make_prepared_views(
    free: Collection[str],
    metric: str = "miou",
    *,
    tried: str = "trial",
    compared: str = "tags.`sweeper.kind` = 'confirm'",
) -> dict[str, str]:
    """Make the tags of the experiment, one per view.

    Args:
        free: coordinates of the searched or compared losses.
        metric: metric of the comparison.
        tried: value of the tag `sweeper.kind` for the trainings that chose parameters and rates.
        compared: filter of the trainings whose means compare the finalists.

    Returns:
        Tag name → view in MLflow's own format: JSON, compressed by zlib, in base64.
    """
    coordinates = [*(n for n in SHOWN_FIRST if n in free), *sorted({*free}.difference(SHOWN_FIRST))]
    score = "miou" if metric == "miou" else "value"
    curves = {"type": "LINE", "selectedMetricKeys": [f"val/{score}", f"val_part/{score}"], "lineSmoothness": 0}
    # A chart of MLflow omits runs that lack one of its parameters, so each parameter has its own chart.
    columns = [["loss.family", "lr"], *(["loss.family", f"loss.{name}", "lr"] for name in coordinates)]
    searches = [{"type": "PARALLEL", "selectedParams": each, "selectedMetrics": [f"val/{score}"]} for each in columns]
    trainings = {
        **_make_view(coordinates, score, order=f"val/{score}", filtered="tags.`sweeper.kind` != 'sweep'"),
        # One column: in half the width the axis names of parallel coordinates overlap.
        **_make_charts("Search", [searches[0], curves, *searches[1:]], columns=1),
    }
    finalists = {
        **_make_view(coordinates, score, order=f"test/{score}", filtered=compared),
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
        "runsHiddenMode": "SHOW_ALL",  # MLflow's charts show only ten runs by default
    }


def _make_charts(section: str, charts: Sequence[dict[str, Any]], columns: int = 2) -> dict[str, Any]:
    """Make a view's charts in an open section; MLflow adds charts of the other metrics to closed sections."""
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
