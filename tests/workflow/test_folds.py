"""Cross-validation in place of a test split: divisions, the table of seeds × images, the flow, and its label."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient

from sweeper.core.errors import DataError, InterruptedSweepError
from sweeper.core.records import TrialResult, TrialSpec
from sweeper.data import divide
from sweeper.data.folds import fold_split, split_of, untested
from sweeper.data.split_notes import fold_notes, split_notes
from sweeper.evidence.paired_comparisons import weigh
from sweeper.evidence.replicates import by_seed
from sweeper.storage import extra_results
from sweeper.study.confirmation_rounds import confirm_seed
from sweeper.workflow.conclude import conclude
from tests.data.test_split import PLAIN, side_of
from tests.support import builders, faking
from tests.support.builders import counted
from tests.support.sweeping import Recorder, sweep_in

SEARCH = {family: builders.trial(family) for family in builders.ORDER}
CONFIRM = {
    "trials": 4,
    "confirm_seeds": "2",
    "folds": 3,
    "steps": 24,
    "confirm_steps": 24,
    "space": str(Path(__file__).parents[1] / "support/two_losses.yaml"),
}
"""Two finalists, as each of them is trained once per seed and fold."""
GROUPS = tuple("abcdef")


# --- The division -------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_over_the_folds_every_image_tests_once_and_no_group_is_cut(data: Any) -> None:
    n = data.draw(st.integers(3, 30))
    groups = data.draw(st.lists(st.sampled_from([None, None, None, "p", "q"]), min_size=n, max_size=n))
    rows = data.draw(st.lists(st.tuples(st.just(50), st.integers(0, 3), st.integers(0, 1)), min_size=n, max_size=n))
    found = counted(rows, None, groups)
    folds = data.draw(st.integers(3, 8))
    units = len({g for g in groups if g}) + groups.count(None)
    if units < folds:
        with pytest.raises(DataError, match=f"found {units}"):
            fold_split(found, folds=folds, number=0, test_seed=0, seed=0)
        return
    splits = [fold_split(found, folds=folds, number=k, test_seed=5, seed=k) for k in range(folds)]
    assert sorted(i for split in splits for i in split.test) == list(range(n))
    for split in splits:
        assert split.train and split.val and split.test
        assert sorted(split.train + split.val + split.test) == list(range(n))
        for name in {g for g in groups if g}:
            assert len({side_of(split, i) for i in range(n) if groups[i] == name}) == 1


def test_folds_are_even_and_stratified() -> None:
    rows = [(80, 20, 5 if i % 5 == 0 else 0) for i in range(50)]
    splits = [fold_split(counted(rows), folds=5, number=k, test_seed=1, seed=1) for k in range(5)]
    assert [len(split.test) for split in splits] == [10] * 5
    assert [sum(1 for i in split.test if rows[i][2]) for split in splits] == [2] * 5
    assert {len(split.val) for split in splits} == {10}


def test_folds_depend_on_the_test_seed_alone_and_validation_on_the_other() -> None:
    one, two = (fold_split(PLAIN, folds=4, number=2, test_seed=3, seed=s) for s in (0, 1))
    assert one.test == two.test and one.val != two.val
    assert fold_split(PLAIN, folds=4, number=2, test_seed=4, seed=0).test != one.test


def test_two_folds_leave_images_to_train_and_to_validate() -> None:
    four = counted([(9, 1)] * 4)
    splits = [fold_split(four, folds=2, number=k, test_seed=0, seed=0) for k in range(2)]
    assert [len(split.test) for split in splits] == [2, 2]
    with pytest.raises(DataError, match="needs 4 groups of images at least, found 3"):
        fold_split(counted([(9, 1)] * 3), folds=2, number=0, test_seed=0, seed=0)


def test_folds_refuse_given_splits() -> None:
    with pytest.raises(DataError, match="1 image has a given split"):
        fold_split(counted([(9, 1)] * 6, ["test", *[None] * 5]), folds=3, number=0, test_seed=0, seed=0)


def test_the_search_of_a_study_with_folds_divides_the_whole_set() -> None:
    conditions = builders.conditions(builders.dataset(images=20)).model_copy(update={"folds": 4})
    split = split_of(conditions, 7)
    assert (len(split.train), len(split.val), split.test) == (15, 5, ())
    rotations = [{i for k in range(4) for i in split_of(conditions, seed, k).test} for seed in (1000, 1001)]
    assert rotations == [set(range(20))] * 2
    assert split_of(conditions, 1000, 0).test != split_of(conditions, 1001, 0).test  # another seed: other folds
    with pytest.raises(DataError, match="a group of images each, found 1"):
        untested(counted([(9, 1)] * 3, None, ["p"] * 3), 0)


def test_small_sets_are_told_of_folds_and_folds_of_what_they_are_not() -> None:
    small = counted([(9, 1)] * 9 + [(9, 0)])
    assert "--folds 5 (not held out then)" in split_notes(small, divide(small, test_seed=0, seed=0))[-1]
    given = counted([(9, 1)] * 10, ["train"] * 7 + ["val"] + ["test"] * 2)
    assert "--folds" not in split_notes(given, divide(given, test_seed=0, seed=0))[-1]

    rare = counted([(9, 1, 0)] * 9 + [(9, 1, 5)])
    notes = fold_notes(rare, untested(rare, 0), 3)
    assert "not held out" in notes[0] and "3 trainings of every finalist" in notes[0]
    assert any("c2 occurs in image 0009 only" in note for note in notes)


# --- The table of seeds × images --------------------------------------------------------------------------


def rotated(run: TrialResult, folds: int, first: int, points: tuple[float, ...] = ()) -> list[TrialResult]:
    """The same confirmation as if each of its images had been scored by the training of its fold."""
    assert run.test is not None
    found = []
    for k in range(folds):
        rows = [i for i in range(len(run.test.images)) if (i + run.spec.seed) % folds == k]
        test = run.test.model_copy(
            update={"images": tuple(run.test.images[i] for i in rows), "data": run.test.data[rows]}
        )
        spec = run.spec.model_copy(update={"fold": k, "number": first + k})
        found.append(run.model_copy(update={"spec": spec, "test": test, "predictions": None}))
    return found


def simulated(folds: int | None) -> list[TrialResult]:
    rng = np.random.default_rng(4)
    runs = builders.simulated_confirmations({"dice": 0.6, "cross_entropy": 0.5}, rng, images=24)
    if folds is None:
        return runs
    return [part for n, run in enumerate(runs) for part in rotated(run, folds, n * folds)]


def test_a_rotation_is_weighed_like_one_training_scored_on_all_images() -> None:
    """Were all folds' trainings one, nothing would change: the table is the same."""
    groups = [f"g{i // 2}" for i in range(24)]
    for grouped in (None, groups):
        whole = weigh(simulated(None), SEARCH, classes=builders.BINARY, groups=grouped)
        folded = weigh(simulated(4), SEARCH, classes=builders.BINARY, groups=grouped)
        assert (whole.folds, folded.folds) == (None, 4)
        assert folded.comparisons == whole.comparisons and folded.test_images == whole.test_images == 24
        for one, two in zip(folded.finalists, whole.finalists, strict=True):
            assert (one.family, one.miou, one.fg_iou, one.seeds) == (two.family, two.miou, two.fg_iou, two.seeds)
            assert (one.trainings, two.trainings) == (12, 3)


def test_each_fold_is_read_at_its_own_operating_point() -> None:
    runs = simulated(2)
    target = next(r for r in runs if r.spec.family == "dice" and r.spec.fold == 1)
    high = target.test.points[-1]  # type: ignore[union-attr]
    last = target.evaluations[-1].model_copy(update={"point": high})
    moved = target.model_copy(update={"evaluations": (*target.evaluations[:-1], last)})
    before = weigh(runs, SEARCH, classes=builders.BINARY)
    after = weigh([moved if r is target else r for r in runs], SEARCH, classes=builders.BINARY)

    def level(evidence: Any, family: str) -> float:
        return next(f.miou.estimate for f in evidence.finalists if f.family == family)

    assert level(after, "dice") < level(before, "dice") - 0.01
    assert level(after, "cross_entropy") == level(before, "cross_entropy")


def test_a_diverged_fold_misses_all_of_its_images_and_the_others_count() -> None:
    runs = simulated(4)
    target = next(r for r in runs if r.spec.family == "dice" and r.spec.fold == 2)
    lost = builders.diverged("dice", target.spec.seed).model_copy(update={"spec": target.spec})
    after = weigh([lost if r is target else r for r in runs], SEARCH, classes=builders.BINARY)
    dice = next(f for f in after.finalists if f.family == "dice")
    assert target.test is not None
    missed = target.test.data.astype(np.int64)
    assert dice.collapses == 1 and after.test_images == 24

    counts = np.zeros((2, 3), dtype=np.int64)
    for run in by_seed(r for r in runs if r.spec.family == "dice")[target.spec.seed].runs:
        assert run.test is not None
        data = run.test.data.astype(np.int64)
        background, crack = data[:, 0].sum(axis=0), data[:, 1].sum(axis=0)
        if run is target:
            counts += [[0, 0, background.sum()], [0, 0, crack.sum()]]
        else:  # the builders' predictions lie at logit ±2, the threshold is 0
            tp, fp = crack[256:].sum(), background[256:].sum()
            counts += [[background[:256].sum(), crack[:256].sum(), fp], [tp, fp, crack[:256].sum()]]
    assert missed.sum() > 0
    expected = float((counts[:, 0] / counts.sum(axis=1)).mean())
    whole = weigh(runs, SEARCH, classes=builders.BINARY)
    of_seed = 3 * (dice.miou.estimate - next(f for f in whole.finalists if f.family == "dice").miou.estimate)
    single = weigh([r for r in runs if r.spec.seed == target.spec.seed], SEARCH, classes=builders.BINARY)
    before = next(f for f in single.finalists if f.family == "dice").miou.estimate
    assert before + of_seed == pytest.approx(expected, abs=1e-12)


def test_seeds_on_different_folds_are_not_weighed_together() -> None:
    runs = simulated(3)
    with pytest.raises(ValueError, match="same test images"):
        weigh(runs[1:], SEARCH, classes=builders.BINARY)


# --- The flow, with trainings that cost nothing -------------------------------------------------------------

_TOY = builders.dataset(images=12)
DATA = _TOY.model_copy(
    update={"images": tuple(p.model_copy(update={"group": GROUPS[i // 2]}) for i, p in enumerate(_TOY.images))}
)
CONDITIONS = builders.conditions(DATA).model_copy(update={"folds": 3})
PLAN = faking.new_plan(conditions=CONDITIONS)


def fold_result(spec: TrialSpec) -> TrialResult:
    """A training of `faking`, scored on the images of its own fold."""
    found = faking.fake_result(spec)
    if spec.purpose != "confirm":
        return found
    images = split_of(CONDITIONS, spec.seed, spec.fold).test
    noise = np.random.default_rng([spec.seed, 7]).normal(0, 0.1, 12)[list(images)]
    test = builders.counts_from_iou(np.clip((found.value or 0) + noise, 0.05, 0.95))
    return found.model_copy(update={"test": test.model_copy(update={"images": images})})


def train(study: optuna.Study, **options: Any) -> list[TrialResult]:
    faking.train(study, faking.FakeExecutor(fold_result, **options), plan=PLAN)
    return extra_results(study, "confirm")


def test_every_seed_of_every_finalist_scores_each_image_once_on_common_folds() -> None:
    runs = train(faking.new_study())
    scored: dict[tuple[str, int], list[int]] = defaultdict(list)
    shared: dict[tuple[int, int | None], set[tuple[int, ...]]] = defaultdict(set)
    for run in runs:
        assert run.test is not None
        scored[run.spec.family, run.spec.seed] += run.test.images
        shared[run.spec.seed, run.spec.fold].add(run.test.images)
        groups = {DATA.images[i].group for i in run.test.images}
        split = split_of(CONDITIONS, run.spec.seed, run.spec.fold)
        assert not groups & {DATA.images[i].group for i in (*split.train, *split.val)}
    assert len(scored) >= 2 * 4  # four finalists, two seeds at least
    assert all(sorted(images) == list(range(12)) for images in scored.values())
    assert all(len(images) == 1 for images in shared.values())  # paired: the same for all finalists
    assert Counter(run.spec.seed for run in runs)[confirm_seed(0, 0)] == 3 * 4


@pytest.mark.parametrize("after", [10, 12, 15, 25])
def test_a_rotation_that_was_cut_off_is_finished_and_not_repeated(after: int) -> None:
    whole = train(faking.new_study())
    study = faking.new_study()
    with pytest.raises(faking.CrashError):
        train(study, crash_after=after)
    assert [r.spec for r in train(study)] == [r.spec for r in whole]


def test_a_fold_that_fails_costs_its_seed_and_is_said() -> None:
    def train_one(spec: TrialSpec) -> TrialResult:
        if spec.purpose == "confirm" and spec.family == "dice" and spec.fold == 1:
            return builders.failed_trial("dice", spec=spec)
        return fold_result(spec)

    study = faking.new_study()
    faking.train(study, faking.FakeExecutor(train_one), plan=PLAN)
    runs = extra_results(study, "confirm")
    sweep = builders.sweep(
        trials=faking.studies.search_results(study),
        confirmations=runs,
        data=DATA,
        conditions=CONDITIONS,
        rechecks=tuple(extra_results(study, "recheck")),
        rate_fit=faking.studies.stored_rates(study.user_attrs),
        space=PLAN.space,
    )
    found = conclude(sweep)
    assert found.evidence is not None and "dice" not in {f.family for f in found.evidence.finalists}
    assert any("no seed of it has all 3 folds" in reason for reason in found.reasons)


# --- The flow itself ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("folds")


@pytest.fixture(scope="module")
def shown() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module")
def outcome(folder: Path, shown: Recorder) -> Any:
    """A small real sweep with three folds, cut off amid its confirmation and resumed."""
    with pytest.raises(InterruptedSweepError):
        sweep_in(folder, cut := Recorder(stop_after=9), **CONFIRM)
    assert 0 < sum(result.spec.purpose == "confirm" for result in cut.results) < 12
    return sweep_in(folder, shown, figures=True, resume=True, trials=4, steps=None, confirm_steps=None, data=None)


@pytest.mark.slow
def test_not_held_out_is_said_wherever_the_result_is(outcome: Any, folder: Path, shown: Recorder) -> None:
    text = outcome.paths.markdown.read_text("utf-8")
    head, caveats = text.split("## Why")[0], text.split("## Caveats")[1]
    assert "not held out: the search saw these images" in head and "not held out" in caveats
    assert "the search never saw" not in text and "test split" not in text
    document = json.loads(outcome.paths.recommendation.read_text("utf-8"))
    assert document["held_out"] is False and document["folds"] == 3
    assert len(document["finalists"][0]["mlflow_run_ids"]) == 6 and document["finalists"][0]["seeds"] == 2
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    parent = client.get_run(outcome.sweep.parent_run_id)
    assert parent.data.tags["sweeper.held_out"] == "false" and "not held out" in parent.data.tags["mlflow.note.content"]
    assert any("not held out" in warning for warning in shown.warnings)
    assert any("each a rotation over 3 folds" in line for line in shown.lines)
