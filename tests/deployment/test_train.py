"""`sweeper train`: trains the recommended configuration to its end, on the requested images only."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import mlflow
import numpy as np
import pytest
import torch
from mlflow.tracking import MlflowClient
from safetensors.torch import load_file

from sweeper import storage as studies
from sweeper.cli.train import format_training
from sweeper.core.errors import InterruptedSweepError, UsageError
from sweeper.core.recipe import FinalNetwork, Recipe
from sweeper.core.records import Collapse, Conditions, Dataset, Split, TrialSpec
from sweeper.core.training_files import get_weights_dir, get_weights_path
from sweeper.data import divide_images, load_dataset, open_store
from sweeper.deployment import train as final_trainings
from sweeper.deployment.export import export_study
from sweeper.deployment.final_spec import make_conditions
from sweeper.deployment.recommended_network import find_kept_network, load_answer
from sweeper.deployment.train import TrainingDocument, train_recommended
from sweeper.training import network_in_training
from sweeper.training.predictor import Predictor
from sweeper.training.training_context import TrainingContext, open_context
from sweeper.training.weights_file import list_kept_weights, read_record
from sweeper.workflow.settings import FinalOptions, TrainOptions
from tests.support import builders, faking
from tests.support.faking import FakeExecutor, fake_result, new_plan, train
from tests.support.folders import folder, mask
from tests.support.marks import rest_slow
from tests.support.small_training import SMALL
from tests.support.sweeping import Recorder

Sweeper = Callable[..., tuple[int, str, str]]


@pytest.fixture
def study(tmp_path: Path, tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> studies.RetryingStorage:
    """Return a study of real images whose trainings were invented, and which recommends `dice`.

    It insisted on recorded steps. A final training records none: one that goes wrong would end the command.
    """
    return study_of(tmp_path, tiny, SMALL.model_copy(update={"engine": "graph"}), monkeypatch)


def study_of(
    tmp_path: Path, tiny: Dataset, recipe: Recipe, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> studies.RetryingStorage:
    monkeypatch.setattr(faking, "DATA", tiny)
    plan = new_plan(conditions=Conditions(dataset=tiny, recipe=recipe, seed=0))
    storage = studies.open_storage(f"sqlite:///{tmp_path}/sweeper.db")
    train(studies.create_study(storage, "s", plan), FakeExecutor(fake_result), plan=plan, **options)
    return storage


class StopAfter(Recorder):
    """Requests a stop after its status was read `after` times."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._left = after

    @property
    def status(self) -> int | None:
        self._left -= 1
        return 130 if self._left < 0 else None


def trained(
    study: studies.RetryingStorage,
    folder: Path,
    stop: Recorder | None = None,
    messages: Recorder | None = None,
    **options: object,
) -> TrainingDocument:
    settings = TrainOptions.model_validate({"cache": folder / "cache", "device": "cpu", **options})
    return train_recommended(
        study,
        "s",
        settings,
        messages=messages or Recorder(),
        stop=stop or Recorder(),
        progress=lambda done, total: None,
    )


@pytest.mark.parametrize(
    ("counted", "words"), [(-0.25, "of the points that are counted the nearest to -0.125, "), (-0.125, "")]
)
def test_a_point_between_counted_points_is_reported_as_moved_to_the_nearest(counted: float, words: str) -> None:
    training: Any = SimpleNamespace(score_images=lambda images, point: SimpleNamespace(point=counted))
    answer: Any = SimpleNamespace(point=-0.125)
    conditions: Any = SimpleNamespace()
    split = Split(train=(0,), val=(1,), test=(2,))
    source, _, test = final_trainings._score_training(training, answer, conditions, "train+val", split)
    assert source.startswith(f"{words}recommended by the study (") and test is not None and test.point == counted


def test_the_better_network_of_the_study_s_final_training_is_used_until_another_is_trained(
    tmp_path: Path, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = FinalNetwork(encoder="resnet18", encoder_depth=4, encoder_weights="none", size=32)
    recipe = SMALL.model_copy(update={"final": whole})
    storage = study_of(tmp_path, tiny, recipe, monkeypatch, final=FinalOptions())
    answer, folder = load_answer(storage, "s", "test"), get_weights_dir(tmp_path / "cache", "s")
    of_used = [result for result in answer.sweep.final if result.spec.loss == answer.loss]
    assert answer.document.in_final and len(of_used) == 4
    context = open_context(answer.sweep.conditions, "cpu")
    for result in of_used:
        network = network_in_training.FinalTraining(result.spec, context, (0, 1))
        network.save_network(get_weights_path(folder, result.spec), 0.25)
    kept = find_kept_network(answer, folder)
    best = max(of_used, key=lambda result: result.value or 0.0)
    assert kept is not None and kept.record.spec == best.spec and kept.record.point == 0.25
    assert kept.record.encoder_depth == 4 != recipe.encoder_depth
    own = best.spec.model_copy(update={"purpose": "train", "lr": answer.rate})
    network_in_training.FinalTraining(own, context, (0, 1)).save_network(folder / "trained.safetensors", 0.25)
    kept = find_kept_network(answer, folder)
    assert kept is not None and kept.record.spec == own and kept.record.encoder_depth == 4


@pytest.mark.slow
def test_a_final_training_uses_the_requested_images_and_scores_the_others(
    study: studies.RetryingStorage, tmp_path: Path, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_on: list[tuple[int, ...]] = []
    scored: list[tuple[int, ...]] = []
    begin, score = network_in_training.FinalTraining.__init__, network_in_training.FinalTraining.score_images

    def note_training(
        self: Any, spec: TrialSpec, context: TrainingContext, images: tuple[int, ...], **more: Any
    ) -> None:
        assert context.conditions.recipe.engine == "eager"  # nothing is recorded, though the study insisted on it
        trained_on.append(images)
        begin(self, spec, context, images, **more)

    def note_scoring(self: object, images: tuple[int, ...], point: float | None) -> object:
        scored.append(images)
        return score(self, images, point)  # type: ignore[arg-type]

    monkeypatch.setattr(network_in_training.FinalTraining, "__init__", note_training)
    monkeypatch.setattr(network_in_training.FinalTraining, "score_images", note_scoring)
    split = divide_images(tiny, test_seed=0, seed=0)
    most = trained(study, tmp_path, steps=12)
    assert trained_on == [tuple(sorted(split.train + split.val))] and scored == [split.test]
    assert most.steps == 12 and most.family == "dice"
    assert most.test is not None and most.val is None and most.test_images == len(split.test)
    least = trained(study, tmp_path, on="train", steps=4)
    assert trained_on[-1] == split.train and scored[1:] == [split.val, split.test] and least.val is not None
    on_all = trained(study, tmp_path, on="all", steps=4, seed=7)
    assert trained_on[-1] == tuple(range(len(tiny.images))) and on_all.test is None and len(scored) == 3
    answer = load_answer(study, "s", "test")
    assert on_all.point == answer.point and on_all.point_from.startswith("recommended by the study")
    # The last network predicts and is exported.
    network = find_kept_network(answer, get_weights_dir(tmp_path / "cache", "s"))
    assert network is not None and str(network.path) == on_all.weights
    assert (network.record.on, network.record.spec.seed, network.record.spec.purpose) == ("all", 7, "train")
    exported = export_study(study, "s", out=tmp_path, cache=tmp_path / "cache")
    assert exported.weights is not None and read_record(exported.weights) == network.record
    assert exported.model is not None and "on the images `all`" in exported.model.read_text("utf-8")
    with pytest.raises(UsageError, match="exists already"):
        trained(study, tmp_path, on="all", steps=4, seed=7)


@pytest.mark.slow
def test_a_stopped_training_continues_bit_for_bit(study: studies.RetryingStorage, tmp_path: Path) -> None:
    uninterrupted = trained(study, tmp_path / "a", steps=9)
    with pytest.raises(
        InterruptedSweepError, match=r"stopped at step \d of 9; the checkpoint is .*train-00001-\w{8}.pt"
    ) as caught:
        trained(study, tmp_path / "b", steps=9, stop=StopAfter(1))
    assert caught.value.exit_status == 130
    assert not list(get_weights_dir(tmp_path / "b" / "cache", "s").glob("*"))
    (checkpoint,) = (tmp_path / "b").rglob("*.pt")
    waiting = checkpoint.read_bytes()
    trained(study, tmp_path / "b", steps=4)
    assert checkpoint.read_bytes() == waiting  # another training does not change it
    again = trained(study, tmp_path / "b", steps=9)
    first, second = load_file(Path(uninterrupted.weights)), load_file(Path(again.weights))
    assert first.keys() == second.keys() and all(bool((first[name] == second[name]).all()) for name in first)
    assert not list((tmp_path / "b").rglob("*.pt"))


def test_only_a_learned_network_of_the_recommended_configuration_predicts(
    study: studies.RetryingStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_in_training, "judge_collapse", lambda *_: Collapse.CLASS_NEVER_PREDICTED)
    first, before = trained(study, tmp_path, steps=4), load_answer(study, "s", "test")
    changed = before._replace(chosen=before.chosen.model_copy(update={"lr": 1.001 * before.chosen.lr}))
    monkeypatch.setattr(final_trainings, "load_answer", lambda *_: changed)
    second = trained(study, tmp_path, steps=4)
    monkeypatch.setattr(network_in_training, "judge_collapse", lambda *_: Collapse.ALL_BACKGROUND)
    collapsed = trained(study, tmp_path, steps=5)
    assert Path(collapsed.weights).exists()  # kept, but not used
    for answer, trained_network in ((before, first), (changed, second)):
        network = find_kept_network(answer, get_weights_dir(tmp_path / "cache", "s"))
        assert network is not None and str(network.path) == trained_network.weights
    options = TrainOptions(storage="sqlite:///my.db", cache=tmp_path / "a cache")
    output = format_training(collapsed, options, 10_000)
    assert "neither predict nor export takes it" in output and "Next:" not in output
    output = format_training(first.model_copy(update={"study": "my study"}), options, 10_000)
    place = "--storage sqlite:///my.db"
    assert f"`sweeper predict 'my study' {place} IMAGES --out DIR` (masks of" in output
    assert f"`sweeper export 'my study' {place}`" in output


OUT_OF_MEMORY = [
    RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
    MemoryError(),
    torch.OutOfMemoryError("no"),
]


@pytest.mark.parametrize("error", rest_slow(OUT_OF_MEMORY, 0, 1))
def test_too_little_memory_is_reported_with_remedies_for_a_final_training(
    study: studies.RetryingStorage, sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def run_out(*_: object) -> float:
        raise error

    monkeypatch.setattr(network_in_training.FinalTraining, "advance", run_out)
    status, output, messages = sweeper("train", "s", "--device", "cpu", "--json")
    text = " ".join(messages.split())
    assert status == 1 and "memory ran out" in text and "the same command continues from the last checkpoint" in text
    assert "--resume" not in text and "--workers" not in text and "mistake" not in text
    assert "memory ran out" in json.loads(output)["error"]["message"]


@pytest.mark.slow
def test_a_registered_network_gives_the_same_masks(
    study: studies.RetryingStorage, tmp_path: Path, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path}/registry.db"
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(UsageError, match="locked"):
        patch.setattr("sweeper.tracking.register_network", Mock(side_effect=UsageError("locked")))
        trained(study, tmp_path, steps=8, register_as="cracks", tracking_uri=uri)
    with monkeypatch.context() as patch:
        patch.setattr(final_trainings, "_begin_training", pytest.fail)
        made = trained(study, tmp_path, steps=8, register_as="cracks", tracking_uri=uri)
    assert made.test is not None and (made.seconds, made.test_images) == (0, len(tiny.images) // 5)
    assert made.registered == "models:/cracks/1" and mlflow.get_tracking_uri() != uri
    listed = MlflowClient(uri).get_model_version_by_alias("cracks", "candidate")
    assert str(listed.version) == "1" and made.family in listed.description and "study s" in listed.description
    expected = {"study": "s", "family": made.family, "classes": ", ".join(tiny.classes), "data": tiny.digest}
    assert {name: listed.tags[f"sweeper.{name}"] for name in expected} == expected
    assert float(listed.tags["sweeper.test_miou"]) == pytest.approx(made.test.miou, abs=1e-4)
    assert float(listed.tags["sweeper.threshold"]) == pytest.approx(made.point, rel=1e-2)
    assert {name for name in listed.tags if name.startswith("loss.")} == {f"loss.{name}" for name in made.params}
    before = mlflow.get_tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    info, network = mlflow.models.get_model_info(made.registered), mlflow.pytorch.load_model(made.registered)
    mlflow.set_tracking_uri(before)
    assert "(-1, 3, -1, -1)" in str(info.signature.inputs) and info.saved_input_example_info is not None
    record = read_record(Path(made.weights))
    predictor = Predictor(Path(made.weights), record, "cpu", "float32", record.point)
    store, side = open_store(Path(tiny.store)), 4 * 2**record.encoder_depth
    masks = []
    for number in range(3):
        image = np.asarray(store.get_view(number))[:side, :side]
        found = network(torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None])
        masks.append(predictor.predict_labels(image).mask)
        assert np.array_equal(found[0].numpy(), masks[-1])
    assert len({mask.sum() for mask in masks}) > 1


def test_a_name_that_mlflow_refuses_is_refused_before_the_training(
    study: studies.RetryingStorage, tmp_path: Path
) -> None:
    words = r"^--register must be .*got 'team/net:1': .*cannot contain '/' or ':'.*; take --register team_net_1$"
    with pytest.raises(UsageError, match=words):
        trained(study, tmp_path, register_as="team/net:1", tracking_uri=f"sqlite:///{tmp_path}/m.db")


def test_labels_that_changed_since_the_study_are_refused(tmp_path: Path) -> None:
    root, messages = folder(tmp_path / "data"), Recorder()
    stored = load_dataset(str(root), tmp_path / "cache")
    options = TrainOptions(cache=tmp_path / "cache")
    answer: Any = SimpleNamespace(
        sweep=SimpleNamespace(conditions=Conditions(dataset=stored, recipe=SMALL, seed=0)), chosen=None
    )
    assert make_conditions(answer, options, messages)[0].dataset.digest == stored.digest
    mask(0, 1, shift=9).save(root / "masks" / "a.png")
    with pytest.raises(UsageError, match="must be those of the study, and have changed since"):
        make_conditions(answer, options, messages)
    for path in (root / "masks").iterdir():
        path.unlink()
    assert make_conditions(answer, options, messages)[0].dataset == stored
    assert "cannot be read any more; the study's decoded images are used" in " ".join(messages.warnings)
    shutil.rmtree(root)
    assert make_conditions(answer, options, messages)[0].dataset == stored


def test_the_command_prints_its_result_and_refuses_wrong_options(
    study: studies.RetryingStorage, sweeper: Sweeper, tmp_path: Path
) -> None:
    arguments = ("train", "s", "--steps", 4, "--device", "cpu")
    status, out, err = sweeper(*arguments)
    assert (
        status == 0 and "Weights: " in out and "no new confirmation" in " ".join(out.split()) and "4 steps of 2" in err
    )
    status, out, _ = sweeper(*arguments, "--overwrite", "--json")
    document = json.loads(out)
    assert status == 0 and document["schema"] == "sweeper.training/1" and document["test"]["miou"] > 0
    ((path, _),) = list_kept_weights(tmp_path / ".sweeper" / "weights" / "s")
    assert Path(document["weights"]).resolve() == path.resolve()
    for wrong, words in (
        (("--on", "test"), "not one of"),
        (("--data", "synthetic:cracks?images=6&size=64"), "have changed"),
    ):
        status, _, err = sweeper(*arguments, *wrong)
        assert status == 2 and words in " ".join(err.split())
    studies.create_study(study, "empty", new_plan(conditions=builders.conditions()))
    for command in (("train", "empty"), ("export", "empty"), ("predict", "empty", "x.png", "--out", "o")):
        status, _, err = sweeper(*command)
        assert status == 1 and "'empty' has no answer" in err
    status, _, err = sweeper("train", "nobody")
    assert status == 2 and "nobody" in err
