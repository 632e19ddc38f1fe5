"""The answer as a record and as the JSON document of the contract."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from sweeper.core import metrics
from sweeper.core.records import Collapse, Evidence, Recommendation, SweepRecord, Verdict
from sweeper.evidence.other_metrics import measure_finalists
from sweeper.evidence.paired_comparisons import compute_evidence
from sweeper.evidence.recommendation import make_recommendation, make_recommendation_json
from sweeper.evidence.verdict_predicates import get_difference
from tests.support.builders import (
    BINARY,
    CONFIRM_SEEDS,
    ORDER,
    STREET,
    confirmation,
    dataset,
    diverged,
    evidence,
    point_counts,
    sweep,
    trial,
)
from tests.support.schemas import problems

PROMISED = {
    "document": "schema study verdict dataset recipe recommended finalists search winners_curse collapses "
    "versions seconds",
    "dataset": "name digest task classes profile",
    "profile": "imbalance",
    "recipe": "arch encoder steps size",
    "recommended": "family params lr threshold tau snippet",
    "finalist": "family params seeds mlflow_run_ids test vs_baseline",
    "test": "miou ci_low ci_high fg_iou precision recall",
    "vs_baseline": "difference ci_low ci_high",
    "search": "trials completed pruned failed per_family",
}
"""Keys of `recommendation.json` and its parts that users were promised."""


def write_snippet(family: str, params: dict[str, float], point: float, lr: float) -> str:
    return f"loss = build_loss({family!r}, {params})"


def recommend(evidence: Evidence | None, task: Any = "binary") -> Recommendation:
    return make_recommendation(evidence, task=task, order=ORDER, snippet=write_snippet)


def make_document(record: SweepRecord, evidence: Evidence | None, task: Any = "binary") -> dict[str, Any]:
    """Return the JSON document, which must fit its published schema."""
    result = make_recommendation_json(record, recommend(evidence, task))
    assert json.loads(json.dumps(result, allow_nan=False)) == result  # finite, and nothing but JSON types
    assert not problems(result)
    return result


def weigh_record(record: SweepRecord) -> Evidence:
    trials = {t.spec.family: t for t in record.trials}
    classes = record.conditions.dataset.classes
    return compute_evidence(record.confirmations, trials, classes=classes, margin=record.margin)


# --- The record ---------------------------------------------------------------------------------------------


def test_the_clear_winner_is_recommended_with_its_code_and_median_threshold() -> None:
    weighed = evidence(
        {"dice_focal": 0.75, "cross_entropy": 0.7}, finalists={"dice_focal": {"points": (0.9, 0.1, 0.47)}}
    )
    result = recommend(weighed)
    chosen = result.recommended
    assert result.verdict is Verdict.CLEAR_WINNER and result.evidence is weighed and result.reasons
    assert (chosen.family, chosen.threshold, chosen.tau, chosen.lr) == ("dice_focal", 0.47, None, 0.003)
    assert chosen.snippet == write_snippet("dice_focal", chosen.params, 0.47, chosen.lr)
    assert Recommendation.model_validate_json(result.model_dump_json()) == result


def test_the_winners_curse_is_search_minus_test_score() -> None:
    clear = evidence({"dice": 0.75, "cross_entropy": 0.7}, finalists={"dice": {"search_value": 0.78}})
    assert recommend(clear).winners_curse == pytest.approx(0.03)
    # Undecided: the curse of the one recommended meanwhile, not of the highest.
    undecided = evidence({"dice": 0.705, "cross_entropy": 0.7}, half=0.2, finalists={"dice": {"search_value": 0.9}})
    assert recommend(undecided).winners_curse == pytest.approx(0.01)


# --- The document -------------------------------------------------------------------------------------------


def test_the_document_has_every_promised_key() -> None:
    record = sweep()
    result = make_document(record, weigh_record(record))
    finalist = result["finalists"][0]
    assert finalist["family"] != "cross_entropy"
    parts = result | result["dataset"] | finalist | {"document": result, "finalist": finalist}
    for part, names in PROMISED.items():
        assert set(names.split()) <= set(parts[part]), part
    assert result["schema"] == "sweeper.recommendation/1"
    assert result["verdict"] in {v.value for v in Verdict}


def test_the_document_has_the_action_and_old_records_load_without_one() -> None:
    keep = "Keep cross-entropy: no other finalist gains more than 0.01 mIoU."
    for levels, action, head in (
        ({"dice": 0.75, "cross_entropy": 0.7}, "change", "Change to dice: +0.050 mIoU."),
        ({"dice": 0.7, "cross_entropy": 0.7}, "keep", keep),
        ({"dice": 0.7, "focal": 0.7}, None, None),
    ):
        result = make_document(sweep(), evidence(levels, half=0.004))
        assert (result["action"], result["head"]) == (action, head)
    stored = recommend(evidence({"dice": 0.7, "focal": 0.7})).model_dump(mode="json", exclude={"action", "head"})
    assert Recommendation.model_validate(stored).action is None


def test_the_document_has_the_numbers_of_the_evidence() -> None:
    record = sweep()
    weighed = weigh_record(record)
    for i, (row, finalist) in enumerate(
        zip(make_document(record, weighed)["finalists"], weighed.finalists, strict=True)
    ):
        assert (row["family"], row["seeds"]) == (finalist.family, 3)
        assert row["mlflow_run_ids"] == list(finalist.run_ids)
        test, miou = row["test"], finalist.miou
        assert (test["miou"], test["ci_low"], test["ci_high"]) == (miou.estimate, miou.low, miou.high)
        assert test["fg_iou"] == finalist.fg_iou.estimate
        assert (test["precision"], test["recall"]) == (finalist.precision[1], finalist.recall[1])  # the foreground's
        assert [part["name"] for part in test["per_class"]] == list(BINARY)
        if finalist.family == "cross_entropy":
            assert row["vs_baseline"] is None
        else:
            gap = get_difference(weighed, i, weighed.baseline)
            ends = {"ci_low": gap.low, "ci_high": gap.high, "level": 0.95}
            assert row["vs_baseline"] == {"difference": gap.estimate, **ends}
    without = make_document(sweep(), evidence({"dice": 0.75, "focal": 0.7}))  # a baseline
    assert [f["vs_baseline"] for f in without["finalists"]] == [None, None] and len(without["comparisons"]) == 1


def test_trials_are_counted_by_state_and_collapses_by_family() -> None:
    record = sweep()
    record = record.model_copy(update={"trials": (*record.trials, trial("dice", 0.5, 7)), "abandoned": 2})
    search = make_document(record, None)["search"]
    assert search.pop("per_family") == {f: 2 if f == "dice" else 1 for f in ORDER}
    assert search == {"trials": 8, "completed": 6, "pruned": 1, "failed": 1, "abandoned": 2}
    trials = [trial("dice", 0.5, 0, collapse=Collapse.ALL_BACKGROUND), trial("focal", 0.5, 1)]
    trials.append(trial("dice", 0.5, 2, collapse=Collapse.CLASS_NEVER_PREDICTED))
    result = make_document(sweep(trials, [diverged("dice"), diverged("tversky", 102), confirmation("focal")]), None)
    assert result["collapses"] == {"dice": 2, "tversky": 1}
    assert result["collapse_kinds"]["dice"] == {"all_background": 1, "diverged": 1}


def test_multiclass_documents_have_tau_class_means_and_null_for_absent_classes() -> None:
    counts = np.random.default_rng(0).integers(1, 50, (4, 3, 3))
    counts[:, 2] = 0
    confirmations = [
        confirmation(f, s, point_counts(counts), 3 * i + j, point=-0.25)
        for i, f in enumerate(("dice", "cross_entropy"))
        for j, s in enumerate(CONFIRM_SEEDS)
    ]
    record = sweep(confirmations=confirmations, data=dataset(STREET))
    weighed = weigh_record(record)
    weighed = weighed.model_copy(update={"others": measure_finalists(confirmations, weighed)})
    assert weighed.finalists[0].miou.estimate == pytest.approx(metrics.compute_scores(counts).miou)
    assert weighed.constant_miou == pytest.approx(metrics.compute_constant_miou(counts))
    result = make_document(record, weighed, "multiclass")
    measures = {row["measure"]: [value["value"] for value in row["values"]] for row in result["other_measures"]}
    assert measures["precision"] == pytest.approx([row["test"]["precision"] for row in result["finalists"]])
    assert measures["IoU of the worst class"] == pytest.approx([min(weighed.finalists[0].iou[:2])] * 2)
    assert (result["recommended"]["threshold"], result["recommended"]["tau"]) == (None, -0.25)
    test = result["finalists"][0]["test"]
    assert test["fg_iou"] is None
    assert test["precision"] == pytest.approx(np.mean(weighed.finalists[0].precision[:2]))
    assert test["per_class"][2] == {"name": "sign", "iou": None, "precision": None, "recall": None}


def test_without_a_verdict_no_loss_is_recommended() -> None:
    result = make_document(sweep(confirmations=[]), None)
    assert (result["verdict"], result["recommended"], result["finalists"]) == ("none", None, [])
    assert set(PROMISED["document"].split()) <= set(result)
    assert result["winners_curse"] is None


def test_numbers_that_are_not_finite_become_null() -> None:
    low = {"focal": {"val_score": -math.inf}}
    infinite = evidence({"dice": 0.75, "focal": 0.7}, finalists=low, constant_miou=math.nan)
    result = make_document(sweep(seconds=math.inf), infinite)
    assert result["seconds"] is result["constant_miou"] is result["finalists"][1]["validation_score"] is None
    assert result["finalists"][0]["validation_score"] is not None
