"""`--miss-at-most` in the report, in predictions and in exported networks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeper import storage as studies
from sweeper.core.errors import SweeperError, UsageError
from sweeper.core.records import Collapse, Conditions, Dataset, MissLimit
from sweeper.data import divide_images
from sweeper.deployment.export import export_study
from sweeper.deployment.predict import load_from_file, load_from_study
from sweeper.evidence.miss_control import format_miss_control
from sweeper.storage import load_sweep
from sweeper.training.weights_file import copy_with_record, read_record
from sweeper.workflow.conclude import draw_conclusion
from sweeper.workflow.miss_limit import make_held_out, read_confirmation_held_out, read_weights_held_out
from tests.deployment.test_predict import write_images
from tests.deployment.test_train import SMALL, study_of, trained
from tests.support import builders
from tests.support.faking import new_plan

Sweeper = Callable[..., tuple[int, str, str]]


@pytest.fixture
def study(tmp_path: Path, tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> studies.RetryingStorage:
    """Return a study of three test images with cracks whose trainings were invented."""
    return study_of(tmp_path, tiny, SMALL, monkeypatch)


def test_the_report_decides_by_the_limit_and_states_its_promise(
    study: studies.RetryingStorage, sweeper: Sweeper, tmp_path: Path
) -> None:
    command = ("report", "s", "--storage", f"sqlite:///{tmp_path}/sweeper.db", "--out", tmp_path / "reports")
    status, out, err = sweeper(*command, "--miss-at-most", "crack=40%", "--json")
    assert status == 0, err
    document = json.loads(out)
    misses = document["misses"]
    assert (misses["share"], misses["images"], misses["class_name"]) == (0.4, 3, "crack")
    # Every pixel of these answers is at logit ±2: what is missed at 0.5 is found from 0.119 down.
    assert document["recommended"]["threshold"] == misses["point"] == pytest.approx(0.119, abs=0.005)
    assert misses["before"] == 0.5 and misses["missed"] == 0 < misses["missed_before"]
    assert f"def predict(logits, threshold={misses['point']:.3g}):" in document["recommended"]["snippet"]
    assert "keeps --miss-at-most 40% for sweeper's network alone" in document["recommended"]["snippet"]
    assert max(map(len, document["recommended"]["snippet"].splitlines())) <= 120
    text = (tmp_path / "reports" / "s" / "report.md").read_text("utf-8").replace("\u00a0", " ")
    assert "**Decide with**" in text and "misses at most 40 % of 'crack' in an average image that has it" in text
    assert "too few for a limit below 25.0 %" in text
    status, _, err = sweeper(*command, "--miss-at-most", "10%")
    assert status == 2 and "needs 9 test images" in err and "found 3" in err
    status, _, err = sweeper(*command, "--miss-at-most", "crack")
    assert status == 2 and "[CLASS=]SHARE" in err


def test_where_nothing_is_recommended_the_limit_is_refused(sweeper: Sweeper, tmp_path: Path, tiny: Dataset) -> None:
    address = f"sqlite:///{tmp_path}/new.db"
    plan = new_plan(conditions=Conditions(dataset=tiny, recipe=SMALL, seed=0))
    studies.create_study(studies.open_storage(address), "s", plan)
    command = ("report", "s", "--storage", address, "--out", tmp_path / "reports")
    status, _, err = sweeper(*command, "--miss-at-most", "10%")
    assert status == 2 and "study 's' recommends none: " in err
    assert f"`sweeper report s --storage {address}` without" in err
    assert not (tmp_path / "reports" / "s").exists() and sweeper(*command)[0] == 0


def test_the_limit_is_refused_with_folds_and_where_no_network_is_kept(
    study: studies.RetryingStorage, tmp_path: Path
) -> None:
    sweep = load_sweep(study, "s")
    chosen = draw_conclusion(sweep).recommended
    rotated = sweep.model_copy(update={"conditions": sweep.conditions.model_copy(update={"folds": 3})})
    with pytest.raises(UsageError, match="a study with folds saw all of them"):
        read_confirmation_held_out(rotated, chosen, MissLimit(share=0.4))
    with pytest.raises(UsageError, match=r"no training of .* gave one"):
        read_confirmation_held_out(sweep, chosen.model_copy(update={"lr": 0.1}), MissLimit(share=0.4))
    with pytest.raises(SweeperError, match="none of study 's' is kept"):
        export_study(study, "s", out=tmp_path, cache=tmp_path / "cache", limit=MissLimit(share=0.4))


@pytest.mark.slow
def test_a_trained_network_is_calibrated_on_its_test_images_and_for_each_later_limit(
    study: studies.RetryingStorage, sweeper: Sweeper, tmp_path: Path, tiny: Dataset
) -> None:
    training = trained(study, tmp_path, steps=40)
    record = read_record(Path(training.weights))
    assert record.held_out.counts.images == divide_images(tiny, test_seed=0, seed=0).test
    with pytest.raises(UsageError, match="found 3"):
        read_weights_held_out(record, MissLimit(share=0.1))
    control = read_weights_held_out(record, MissLimit(share=0.4))
    # As one that learned, it is what predicts and what is exported, at any limit.
    learned = record.model_copy(update={"collapse": Collapse.NONE})
    weights = Path(training.weights)
    other = weights.with_name("again.safetensors")
    copy_with_record(weights, learned, other)
    other.replace(weights)
    cache, tight, loose = tmp_path / "cache", MissLimit(share=0.4), MissLimit(share=0.6)
    assert load_from_file(weights).record.misses is None
    tightened = load_from_file(weights, tight).record, load_from_study(study, "s", cache, tight).record
    assert [record.misses for record in tightened] == [control, control]
    network = load_from_study(study, "s", cache, loose)
    assert network == load_from_file(weights, loose)._replace(study="s")
    looser = network.record
    assert looser.misses.share == 0.6 and looser.point == looser.misses.point
    assert looser.misses.before == control.before and looser.point >= control.point
    write_images(tiny, (0,), tmp_path / "new")
    status, out, err = sweeper(
        *("predict", "--weights", weights, tmp_path / "new", "--out", tmp_path / "answers", "--device", "cpu"),
        *("--miss-at-most", "40%"),
    )
    assert status == 0, err
    assert " ".join(format_miss_control(control, "threshold")) in " ".join(out.replace("Limit:", "").split())
    for limit, share in ((tight, 40), (loose, 60)):
        out = export_study(study, "s", out=tmp_path, cache=cache, limit=limit)
        point = read_record(out.weights).point
        assert f"THRESHOLD = {point!r}  # misses at most {share} % of 'crack'" in out.model.read_text("utf-8")
    assert point == looser.point and f"{point:.3g}" in out.loss.read_text("utf-8")
    with pytest.raises(UsageError, match="these weights hold none"):
        read_weights_held_out(record.model_copy(update={"held_out": None}), loose)


def test_the_weights_contain_no_name_of_a_group(tiny: Dataset) -> None:
    names = ["ann", "ben", "ann", None]
    images = [image.model_copy(update={"group": name}) for image, name in zip(tiny.images, names, strict=False)]
    counts = builders.counts_from_iou([0.5, 0.6, 0.7, 0.8])
    held_out = make_held_out(tiny.model_copy(update={"images": (*images, *tiny.images[4:])}), counts)
    first, second, third, fourth = held_out.groups
    assert first == third != second and fourth is None
    assert not {"ann", "ben"} & set(held_out.groups)
