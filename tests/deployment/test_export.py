"""What `sweeper export` writes works for its user, in a fresh process with only the libraries that it needs.

Also on a stand-in of nnU-Net, by segmentation-models-pytorch and the Hub's own library.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from torch import nn

from sweeper import storage as studies
from sweeper.core.errors import SweeperError, UsageError
from sweeper.core.events import JobResult, TrainingJob
from sweeper.core.recipe import Recipe
from sweeper.core.records import Conditions, Dataset, TrialResult, TrialSpec, Use
from sweeper.core.tasks import RULES
from sweeper.core.training_files import get_checkpoints_dir, get_weights_dir, get_weights_dir_of, get_weights_path
from sweeper.data import divide_images, open_store
from sweeper.deployment import export
from sweeper.deployment.export import export_study
from sweeper.deployment.export_code import make_examples, make_model_code
from sweeper.deployment.predict import load_from_study
from sweeper.losses import build_loss, make_snippet
from sweeper.losses.snippet import OptimizerSettings
from sweeper.space import load_space
from sweeper.study.finalist import derive_confirmation_seed
from sweeper.training import network_formats
from sweeper.training.job import WorkerTrainings
from sweeper.training.model import load_network
from sweeper.training.network_formats import write_onnx
from sweeper.training.network_in_training import save_weights
from sweeper.training.predictor import Predictor
from sweeper.training.training_context import open_context
from sweeper.training.weights_file import WeightsRecord, list_kept_weights, read_record
from sweeper.workflow.conclude import draw_conclusion
from tests.support import builders
from tests.support.faking import DATA, FakeExecutor, fake_result, new_plan, train
from tests.support.pasting import run_text
from tests.support.small_training import SMALL, spec

ROOT = Path(__file__).resolve().parents[2]


def trained(dataset: Dataset, folder: Path, recipe: Recipe = SMALL, **changes: object) -> TrialResult:
    """Return a confirmation in this process, whose weights are kept."""
    conditions = Conditions(dataset=dataset, recipe=recipe, seed=0)
    trial = spec(purpose="confirm", keep_predictions=48, **changes)
    trainings = WorkerTrainings(open_context(conditions, "cpu"), get_checkpoints_dir(folder / "cache", "s"))
    answer = trainings.run_job(TrainingJob(trial, trial.steps))
    assert isinstance(answer, JobResult) and answer.result.state == "complete", answer
    return answer.result


@pytest.mark.slow
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_the_exported_network_predicts_as_the_confirmed_one(
    task: str, tmp_path: Path, tiny: Dataset, tiny_street: Dataset
) -> None:
    dataset = tiny if task == "binary" else tiny_street
    result = trained(dataset, tmp_path)
    folder = get_weights_dir(tmp_path / "cache", "s")
    ((path, record),) = list_kept_weights(folder)
    assert record.spec == result.spec and record.digest == dataset.digest
    assert record.point == result.evaluations[-1].point
    out = tmp_path / "elsewhere"
    out.mkdir()
    path.rename(out / "model.safetensors")
    (out / "model.py").write_text(make_model_code(record), "utf-8")
    store, test = open_store(dataset.store), divide_images(dataset, test_seed=0, seed=0).test
    np.save(out / "images.npy", np.stack([store.get_image(i).transpose(2, 0, 1) for i in test]))
    code = (
        "import sys, numpy as np, torch; sys.path.insert(0, '.'); torch.set_num_threads(1)\nsys.modules['sweeper'] = "
        "None  # it is not needed\nfrom model import load, predict\nimages = "
        "torch.from_numpy(np.load('images.npy'))\nnp.save('answer.npy', predict(load(), images).numpy())\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=out, check=True, capture_output=True, text=True)
    assert result.predictions is not None and result.predictions.images == test
    answer = np.load(out / "answer.npy")
    assert np.mean(answer == np.stack(result.predictions.masks)) > 0.9999


def test_the_onnx_network_equals_that_of_torch_and_a_missing_package_is_reported(
    tmp_path: Path, tiny_street: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(tiny_street, tmp_path)
    ((path, record),) = list_kept_weights(get_weights_dir(tmp_path / "cache", "s"))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(UsageError, match=r"needs onnx and onnxruntime.*'\.\[onnx\]'"):
            write_onnx(path, record, tmp_path / "model.onnx")
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    assert write_onnx(path, record, tmp_path / "model.onnx") <= 1e-4
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["sweeper.classes"]) == list(tiny_street.classes)
    image = np.asarray(open_store(tiny_street.store).get_image(0)).astype(np.float32)
    (logits,) = session.run(None, {"images": image.transpose(2, 0, 1)[None]})
    expected = Predictor(path, record, "cpu", "float32", 0.0).predict_labels(image.astype(np.uint8)).mask
    assert (logits[0].argmax(0) == expected).mean() > 0.9999
    monkeypatch.setattr(network_formats, "TOLERANCE", -1.0)
    with pytest.raises(SweeperError, match="must answer as torch does"):
        write_onnx(path, record, tmp_path / "other.onnx")
    assert not (tmp_path / "other.onnx").exists()


def test_search_trials_and_later_seeds_keep_no_weights(tmp_path: Path, tiny: Dataset) -> None:
    conditions = Conditions(dataset=tiny, recipe=SMALL, seed=0)
    checkpoints = get_checkpoints_dir(tmp_path / "cache", "s")
    trainings = WorkerTrainings(open_context(conditions, "cpu"), checkpoints)
    for trial in (spec(), spec(purpose="confirm", seed=1001)):
        assert isinstance(trainings.run_job(TrainingJob(trial, trial.steps)), JobResult)
    assert not get_weights_dir_of(checkpoints).exists()


def test_a_file_that_sweeper_did_not_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"\xff" * 64)
    save_file({"x": torch.zeros(1)}, tmp_path / "b.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "c.safetensors", {"sweeper": "{}"})
    for name in ("a", "b", "c", "missing"):
        with pytest.raises(UsageError, match="must be a file that sweeper wrote"):
            read_record(tmp_path / f"{name}.safetensors")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a study whose trainings were invented, and which recommends `dice`."""
    folder = tmp_path_factory.mktemp("export")
    plan = new_plan()
    study = studies.create_study(studies.open_storage(f"sqlite:///{folder}/sweeper.db"), "s", plan)
    train(study, FakeExecutor(fake_result), plan=plan)
    return folder


def read_use(folder: Path) -> Use:
    sweep = studies.load_sweep(studies.open_storage(f"sqlite:///{folder}/sweeper.db"), "s")
    use = draw_conclusion(sweep).answer.use
    assert use is not None
    return use


def record_of(trial: TrialSpec, digest: str = DATA.digest) -> WeightsRecord:
    return WeightsRecord(
        spec=trial, digest=digest, arch="unet", encoder="resnet18", encoder_depth=3, decoder_channels=(64, 32, 16),
        channels=3, task="binary", classes=("background", "crack"), full_scale=255, mean=(0.0,) * 3, std=(1.0,) * 3,
        point=0.4, log_prior=(-0.1, -2.0), versions={},
    )  # fmt: skip


def keep(folder: Path, trial: TrialSpec, digest: str = DATA.digest) -> Path:
    path = get_weights_path(get_weights_dir(folder / "cache", "s"), trial)
    save_weights(path, nn.Linear(2, 2), record_of(trial, digest))
    return path


def test_an_export_writes_weights_model_loss_space_and_examples(finished: Path, tmp_path: Path) -> None:
    storage = studies.open_storage(f"sqlite:///{finished}/sweeper.db")
    chosen = read_use(finished)
    steps = studies.load_sweep(storage, "s").conditions.recipe.confirm_steps
    settings = {"steps": steps, "seed": derive_confirmation_seed(0, 0)}
    settings |= {"family": chosen.loss, "params": chosen.params, "lr": chosen.lr}
    with pytest.raises(SweeperError, match=r"--onnx needs a network.*sweeper train"):
        export_study(storage, "s", out=tmp_path, cache=tmp_path / "cache", onnx=True)
    empty = export_study(storage, "s", out=tmp_path, cache=tmp_path / "cache")
    assert empty.weights is None and empty.model is None and empty.loss.exists()
    keep(tmp_path, spec(purpose="confirm", number=1, **{**settings, "lr": 0.1}))  # another configuration
    keep(tmp_path, spec(purpose="confirm", number=2, **settings), digest="sha256:other")
    keep(tmp_path, spec(purpose="confirm", number=3, **{**settings, "steps": 4}))
    assert export_study(storage, "s", out=tmp_path, cache=tmp_path / "cache").weights is None
    network = keep(tmp_path, spec(purpose="confirm", number=4, **settings))
    exported = export_study(storage, "s", out=tmp_path, cache=tmp_path / "cache")
    assert exported.weights is not None and exported.model is not None
    before, after = load_file(network), load_file(exported.weights)
    assert before.keys() == after.keys() and all(bool((before[name] == after[name]).all()) for name in before)
    # The operating point is the one of `sweeper predict`, and not this one training's.
    point = load_from_study(storage, "s", tmp_path / "cache").record.point
    record = read_record(exported.weights)
    assert record.point == point != 0.4
    assert f"THRESHOLD = {point!r} " in exported.model.read_text("utf-8")
    assert exported.megabytes is not None and exported.megabytes > 0

    assert exported.examples is not None and exported.examples == exported.loss.parent / "examples"
    assert {file.name for file in exported.examples.iterdir()} == {"train_plain.py", "nnUNetTrainerSweeper.py"}

    code = (
        exported.loss.read_text("utf-8")
        + "\nimport torch; print(float(criterion(torch.zeros(1, 1, 8, 8), torch.ones(1, 8, 8).long())))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert float(done.stdout) >= 0
    space = load_space(str(exported.space), "binary")
    (family,) = space.families
    assert family.family == chosen.loss and space.lr.low == space.lr.high == pytest.approx(chosen.lr)
    assert {name: c.low for name, c in family.coordinates.items()} == pytest.approx(chosen.params)


def test_an_export_deletes_the_files_of_an_earlier_one_and_no_others(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = studies.open_storage(f"sqlite:///{finished}/sweeper.db")
    folder = export_study(storage, "s", out=tmp_path, cache=tmp_path / "cache").loss.parent
    for name in ("model.safetensors", "model.py", "model.onnx", "notes.txt"):
        (folder / name).write_text("earlier")
    with pytest.raises(SweeperError, match="--onnx needs a network"):
        export_study(storage, "s", out=tmp_path, cache=tmp_path / "cache", onnx=True)
    assert (folder / "model.onnx").read_text() == "earlier"  # one that fails leaves the earlier one as it was
    assert [path.name for path in folder.parent.iterdir()] == ["export"]
    monkeypatch.setattr(export, "make_examples", lambda *_: {})  # as of a loss that needs distance maps
    export_study(storage, "s", out=tmp_path, cache=tmp_path / "cache")
    assert sorted(path.name for path in folder.iterdir()) == ["loss.py", "loss.yaml", "notes.txt"]


def test_the_command_prints_where_the_files_are(finished: Path, sweeper: Callable[..., tuple[int, str, str]]) -> None:
    status, out, _ = sweeper("export", "s", "--storage", f"sqlite:///{finished}/sweeper.db")
    assert status == 0 and "loss.py" in out and "weights: none" in out


def test_names_of_classes_cannot_inject_code() -> None:
    names = ('a"""\nimport os', "b\\", "{x}", "日本")
    changes = {"task": "multiclass", "classes": names, "point": 0.0, "log_prior": (-1.0,) * 4}
    record = record_of(builders.spec("dice", 0)).model_copy(update=changes)
    tree = compile(make_model_code(record), "model.py", "exec")
    assert "os" not in tree.co_names


# --- Code that trains elsewhere ---


STREET = builders.dataset(classes=builders.STREET)
TASKS: dict[str, tuple[Dataset, Any]] = {
    "binary": (builders.dataset(), 0.4),
    "multiclass": (STREET, 0.5),
    "multilabel": (STREET.model_copy(update={"task": "multilabel"}), (0.4, 0.5, 0.6)),
}


def make_texts(task: str, family: str = "dice_ce") -> dict[str, str]:
    data, point = TASKS[task]
    params = {"mix": 0.5} if family == "dice_ce" else {}
    rate, shares = OptimizerSettings(0.002, 0.01, 0.05, 0.3), RULES[data.task].make_frequencies(data)
    text = make_snippet(family, params, data.task, data.classes, shares, point=point, optimizer=rate)
    chosen = Use(loss=family, params=params, lr=0.002, point=point, snippet=text)
    sweep = builders.sweep([], []).model_copy(update={"conditions": builders.conditions(data)})
    return make_examples(sweep, chosen)


def run_code(text: str, monkeypatch: pytest.MonkeyPatch, **modules: ModuleType) -> dict[str, Any]:
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name.replace("__", "."), module)
    return run_text(text)


def make_module(**names: object) -> ModuleType:
    stand_in = ModuleType("stand-in")
    vars(stand_in).update(names)
    return stand_in


def make_batch(task: str) -> tuple[torch.Tensor, torch.Tensor]:
    classes, planes = (2, ()) if task == "binary" else (3, (3,) * (task == "multilabel"))
    torch.manual_seed(0)
    return torch.randn(2, classes, 8, 12), torch.randint(0, 2 if planes else classes, (2, *planes, 8, 12))


def compute_expected(task: str, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    if task == "binary":
        logits = logits[:, 1:] - logits[:, :1]
    result: torch.Tensor = build_loss("dice_ce", task=task, mix=0.5)(logits, labels)
    return result


@pytest.mark.slow
@pytest.mark.parametrize("task", [*TASKS])
def test_the_plain_loop_runs_and_learns(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = make_texts(task)["train_plain.py"]
    (tmp_path / "train_plain.py").write_text(text, "utf-8")
    if task != "multiclass":  # as its user runs it
        done = subprocess.run(
            [sys.executable, "train_plain.py"], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert f"labels: torch.Size([1, {'3, ' * (task == 'multilabel')}32, 32])" in done.stdout
    names = run_code(text, monkeypatch)
    images, masks = torch.randn(2, 3, 16, 16), torch.zeros(2, 16, 16, dtype=torch.long)
    masks[:, 4:8] = 1
    images[:, 0] += 4 * masks
    masks = torch.stack([masks, masks, 1 - masks], 1) if task == "multilabel" else masks
    network = torch.nn.Conv2d(3, len(names["PRIOR"]), 1)
    names["start_at_prior"](network)
    assert network.bias is not None and network.bias.tolist() == pytest.approx(names["PRIOR"])
    losses = names["fit"](network, iter([(images, masks)] * 60), 60)
    assert len(losses) == 60 and losses[-1] < losses[0]


@pytest.mark.parametrize("task", [*TASKS])
def test_the_trainer_class_gives_nnunet_the_same_loss(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Trainer:
        label_manager = SimpleNamespace(has_regions=task == "multilabel", ignore_label=9)
        enable_deep_supervision = True
        is_ddp = False

        def _get_deep_supervision_scales(self) -> list[int]:
            return [1, 2, 4]

        def _do_i_compile(self) -> bool:
            return False

    wrapped: list[Any] = []
    names = run_code(
        make_texts(task)["nnUNetTrainerSweeper.py"],
        monkeypatch,
        nnunetv2__training__loss__deep_supervision=make_module(
            DeepSupervisionWrapper=lambda loss, weights: wrapped.append(weights) or loss
        ),
        nnunetv2__training__nnUNetTrainer__nnUNetTrainer=make_module(nnUNetTrainer=Trainer),
    )
    loss = names["nnUNetTrainerSweeper"]()._build_loss()
    assert wrapped[0] == pytest.approx([2 / 3, 1 / 3, 0])
    Trainer.is_ddp = True
    names["nnUNetTrainerSweeper"]()._build_loss()
    assert 0 < wrapped[1][-1] < 1e-5  # a weight of 0 leaves parameters without a gradient
    logits, labels = make_batch(task)
    ignored = labels.clone()
    ignored[0, :3] = 255
    target = torch.where(ignored == 255, 9, ignored)[:, None].float()
    if task == "multilabel":  # nnU-Net has a plane of ignored pixels
        ignored = torch.where((labels[:, :1] == 1) & (torch.arange(8).view(-1, 1) < 3), 255, labels)
        target = torch.cat([labels.clone(), ignored[:, :1] == 255], 1).float()
    value = compute_expected(task, logits, ignored)
    torch.testing.assert_close(loss(logits, target), value)
    # A volume of one slice is that slice, of two the same pixels.
    torch.testing.assert_close(loss(logits[:, :, None], target[:, :, None]), value)
    halves = logits.reshape(2, -1, 2, 4, 12), target.reshape(2, -1, 2, 4, 12)
    torch.testing.assert_close(loss(*halves), value)


def test_a_loss_that_needs_distance_maps_has_no_examples() -> None:
    assert make_texts("binary", "boundary") == {}


# --- HuggingFace's Hub ---


def test_the_exported_network_is_saved_for_the_hub_by_its_library(tmp_path: Path, tiny: Dataset) -> None:
    trained(tiny, tmp_path)
    ((path, record),) = list_kept_weights(get_weights_dir(tmp_path / "cache", "s"))
    shutil.copy(path, tmp_path / "model.safetensors")
    (tmp_path / "model.py").write_text(make_model_code(record), "utf-8")
    line = re.search(r'`python -c "(.*)"` next to model.py', (ROOT / "docs" / "take-home.md").read_text("utf-8"))
    assert line is not None
    subprocess.run([sys.executable, "-c", line[1]], cwd=tmp_path, check=True)
    card = ModelCard.load(tmp_path / "FOLDER" / "README.md")
    assert card.data.library_name == "segmentation-models-pytorch"
    images = torch.randn(2, record.channels, 64, 96)
    saved, network = smp.from_pretrained(tmp_path / "FOLDER").eval(), load_network(path, record, torch.device("cpu"))
    with torch.no_grad():
        assert torch.allclose(saved(images), network(images), atol=1e-5)  # in another layout of memory
