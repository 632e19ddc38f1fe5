"""Code of the user's (`--model module:function`): tried before anything is trained, and used like sweeper's own."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch
import torch

from sweeper.core.errors import StudyError, UsageError
from sweeper.core.own_code import find_code, load_code, locate_code
from sweeper.core.own_metric import check_metric
from sweeper.core.records import Conditions, Dataset
from sweeper.data import open_store
from sweeper.deployment.export_code import make_model_code
from sweeper.losses.families import FAMILIES
from sweeper.losses.own_loss_module import check_own_loss
from sweeper.losses.own_losses import OWN
from sweeper.space import load_space
from sweeper.storage import StudyPlan, list_plan_differences
from sweeper.training.hardware import probe_device
from sweeper.training.network_in_training import FinalTraining, make_checkpoint_key
from sweeper.training.own_model import check_own
from sweeper.training.predictor import Predictor
from sweeper.training.training_context import open_context
from sweeper.training.weights_file import read_record
from sweeper.workflow.encoder_weights import NOTHING
from sweeper.workflow.own_losses import declare_loss
from sweeper.workflow.recipe_choice import describe_recipe, make_recipe, resolve_resumed_recipe
from sweeper.workflow.settings import Settings
from tests.support.faking import new_plan
from tests.support.marks import rest_slow
from tests.support.own_modules import own_module
from tests.support.pasting import run_text
from tests.support.small_training import SMALL, spec
from tests.support.sweeping import run_small_sweep

Sweeper = Callable[..., tuple[int, str, str]]

NETS = """
import random
from functools import partial
import torch
from torch import nn

def build(in_channels, classes, width=8):
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, classes, 1)
    )

WAYS = {
    "half": lambda logits: logits[..., ::2, ::2],
    "pair": lambda logits: (logits, logits),
    "labels": lambda logits: logits.argmax(1, keepdim=True),
    "nan": lambda logits: logits / 0.0,
    "cut": lambda logits: logits.detach(),
    "zero": lambda logits: 0 * logits,
    "sized": lambda logits: logits.reshape(len(logits), 1, 32, 32),
    "train": lambda logits: logits,
}

class Odd(nn.Module):
    def __init__(self, how, in_channels, classes):
        super().__init__()
        self.how, self.net = how, build(in_channels, classes)

    def forward(self, images):
        if self.how == "train" and self.training:
            raise RuntimeError("only in training")
        return WAYS[self.how](self.net(images))

half, pair, labels, nan, cut, zero, sized, train = (partial(Odd, how) for how in WAYS)
def fails(in_channels, classes): raise ValueError("no weights today")
def nothing(in_channels, classes): return lambda images: images
def frozen(in_channels, classes): return build(in_channels, classes).requires_grad_(False)
def lazy(in_channels, classes): return nn.LazyConv2d(classes, 1)

def unlike(in_channels, classes):
    net = build(in_channels, classes)
    net[0].weight.data *= random.random()
    return net

def locked(in_channels, classes):
    net = build(in_channels, classes)
    net.stream = (number for number in range(3))
    return net

NUMBER = 3
made = build(3, 1)
"""


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield a module of networks in the working folder; its name."""
    with own_module("own_nets", NETS, tmp_path, monkeypatch) as name:
        yield name


def make_own_recipe(function: str = "own_nets:build") -> Any:
    code = find_code(function, "--model")
    return SMALL.model_copy(update={"model": code, "arch": code.name, "encoder": "", "encoder_depth": 5})


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("half", "finite logits of shape (2, 1, 32, 32) for images of shape (2, 3, 32, 32), got (2, 1, 16, 16)"),
        ("pair", "'tuple' object has no attribute 'shape'"),
        ("labels", "must learn from images of 32×32, and failed"),
        ("nan", "must give finite logits"),
        ("cut", "does not require grad"),
        ("zero", "every gradient is 0"),
        ("sized", "images of 32×64, and failed: RuntimeError"),
        ("train", "it must learn from images of 32×32, and failed: RuntimeError: only in training"),
        ("fails", "failed: ValueError: no weights today"),
        ("nothing", "it gives function, which is no torch.nn.Module"),
        ("frozen", "does not require grad"),
        ("lazy", "must have all weights when it is made"),
        ("unlike", "follow from torch's seed alone"),
        ("locked", "be possible to copy"),
        ("NUMBER", "NUMBER = int"),
        ("made", "must give a network, and failed: TypeError"),
        ("absent", "has no absent"),
    ],
)
def test_a_function_whose_network_cannot_be_trained_is_refused(nets: str, function: str, words: str) -> None:
    code = find_code(f"{nets}:{function}", "--model")
    with pytest.raises(UsageError) as caught:
        check_own(code, channels=3, outputs=1, sizes=[(32, 32), (32, 64)], seed=0)
    assert words in str(caught.value) and f"{nets}:{function}" in str(caught.value)


def test_all_faults_of_a_network_are_listed_at_once_and_a_sound_one_passes(nets: str) -> None:
    sizes = [(32, 32), (32, 64), (32, 32)]
    with pytest.raises(UsageError) as caught:
        check_own(find_code(f"{nets}:half", "--model"), channels=3, outputs=1, sizes=sizes, seed=0)
    assert str(caught.value).count("\n  - ") == 4  # two sizes, in training and in evaluation
    before = torch.random.get_rng_state()
    check_own(find_code(f"{nets}:build", "--model"), channels=5, outputs=4, sizes=sizes, seed=0)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("name", "words"),
    rest_slow(
        [
            ("folder/own_nets.py:build", "for example my_code:build"),
            ("own_nets", "must be module:function"),
            ("a.b.c:build", "there is no a.b.c in"),
            ("sys:exit", "there is no sys in"),
        ]
    ),
)
def test_wrong_names_of_functions_are_refused_before_loading_data(
    nets: str, sweeper: Sweeper, name: str, words: str
) -> None:
    status, out, err = sweeper("run", "nowhere", "--workers", "0", "--model", name, "--json")
    assert status == 2 and words in json.loads(out)["error"]["message"] and "nowhere" not in err


def test_a_module_that_fails_or_changed_is_refused(
    nets: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken_net.py").write_text("import torch\n1 / 0\n")
    code = find_code("broken_net:build", "--model")
    with pytest.raises(UsageError, match=r"importing broken_net failed: ZeroDivisionError.*broken_net.py:2"):
        load_code(code, "--model")
    (tmp_path / "script_net.py").write_text("import sys\nsys.exit('done')\n")
    with pytest.raises(UsageError, match="importing script_net failed: SystemExit: done"):
        load_code(find_code("script_net:build", "--model"), "--model")
    (tmp_path / "telling_net.py").write_text("print('hello')\nbuild = dict\n")
    load_code(find_code("telling_net:build", "--model"), "--model")
    assert capsys.readouterr().out == ""  # standard output is for results
    good = find_code(f"{nets}:build", "--model")
    assert load_code(good, "--model").__name__ == "build"
    (tmp_path / "own_nets.py").write_text(NETS + "\n# another\n")
    with pytest.raises(UsageError, match="has changed since"):
        load_code(good, "--model")
    (tmp_path / "own_nets.py").unlink()
    with pytest.raises(UsageError, match="copy its file there"):
        load_code(good, "--model")


def test_an_edited_module_is_imported_again_and_that_of_a_library_is_not(nets: str, tmp_path: Path) -> None:
    """As in a notebook, whose process stays."""
    source = tmp_path / "own_nets.py"
    source.write_text("def build(in_channels, classes): return 'before'\n")
    assert load_code(find_code(f"{nets}:build", "--model"), "--model")(1, 1) == "before"
    source.write_text("def build(in_channels, classes): return 'after'\n")
    code = find_code(f"{nets}:build", "--model")
    build = load_code(code, "--model")
    assert build(1, 1) == "after" and load_code(code, "--model") is build
    smp = load_code(find_code("segmentation_models_pytorch:Unet", "--model"), "--model")
    assert smp is sys.modules["segmentation_models_pytorch"].Unet is segmentation_models_pytorch.Unet


def test_the_same_file_is_located_in_the_folder_of_another_machine(
    nets: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = find_code(f"{nets}:build", "--model")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "own_nets.py").rename(tmp_path / "elsewhere" / "own_nets.py")
    monkeypatch.chdir(tmp_path / "elsewhere")
    located = locate_code(original, "--model")
    assert located.digest == original.digest and located.folder != original.folder
    assert load_code(original.model_copy(update={"folder": "/nowhere"}), "--model").__name__ == "build"


def test_a_resume_compares_the_source_and_not_the_folder(nets: str, tiny: Dataset, tmp_path: Path) -> None:
    recipe = make_own_recipe()
    conditions = Conditions(dataset=tiny, recipe=recipe, seed=0)
    moved = recipe.model_copy(update={"model": recipe.model.model_copy(update={"folder": "/elsewhere"})})
    plan = new_plan(conditions=conditions)

    def with_recipe(other: Any) -> StudyPlan:
        return plan.model_copy(update={"conditions": conditions.model_copy(update={"recipe": other})})

    assert not list_plan_differences(plan, with_recipe(moved))
    assert make_checkpoint_key(conditions) == make_checkpoint_key(conditions.model_copy(update={"recipe": moved}))
    (tmp_path / "own_nets.py").write_text(NETS + "\n# another\n")
    hardware = probe_device("cpu")
    again = resolve_resumed_recipe(Settings(), recipe.model_copy(update={"precision": hardware.precision}), hardware)
    (line,) = [line for line in list_plan_differences(plan, with_recipe(again)) if "precision" not in line]
    assert "SHA-256 of the source of own_nets:build" in line
    assert make_checkpoint_key(conditions) != make_checkpoint_key(conditions.model_copy(update={"recipe": again}))


def test_the_recipe_of_an_own_network_excludes_options_of_library_networks(nets: str, tiny: Dataset) -> None:
    def make(**options: Any) -> Any:
        settings = Settings(model="own_nets:build", **options)
        return make_recipe(settings, tiny, probe_device("cpu"), weights=lambda name: NOTHING)

    recipe = make()
    assert recipe.arch == "own_nets:build" and recipe.encoder == "" and recipe.stride == 32
    assert recipe.model is not None and describe_recipe(recipe).startswith("the network own_nets:build on ")
    with pytest.raises(UsageError, match="excludes --arch, --encoder;"):
        make(arch="unet", encoder="resnet18")
    with pytest.raises(UsageError, match="multiple of 32, the network's stride, got 48"):
        make(size=48)
    with pytest.raises(UsageError, match="excludes --encoder"):
        resolve_resumed_recipe(Settings(encoder="resnet34"), recipe, probe_device("cpu"))


def test_an_own_network_is_trained_saved_loaded_and_exported(nets: str, tiny: Dataset, tmp_path: Path) -> None:
    recipe = make_own_recipe()
    conditions = Conditions(dataset=tiny, recipe=recipe, seed=0)
    trial = spec(purpose="train", lr=0.01)
    training = FinalTraining(trial, open_context(conditions, "cpu"), (0, 1, 2))
    training.advance(2)
    path = tmp_path / "model.safetensors"
    training.save_network(path, 0.4, "train")
    record = read_record(path)
    assert record.model == recipe.model
    image = open_store(tiny.store).get_image(0)
    mask = Predictor(path, record, "cpu", "float32", record.point).predict_labels(image).mask
    names = run_text(make_model_code(record), __file__=str(tmp_path / "model.py"))
    images = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]
    assert (names["predict"](names["load"](), images)[0].numpy() == mask).all()
    assert "from own_nets import build" in make_model_code(record)
    assert "segmentation_models_pytorch" not in make_model_code(record)


def test_the_examples_of_the_page_on_own_code_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs" / "how-to" / "own-code.md").read_text("utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for file, code in re.findall(r'```python title="(\w+\.py)"\n(.*?)```', text, re.S):
        (tmp_path / file).write_text(code)
    try:
        (network,) = re.findall(r"--model (my_\S+)", text)
        check_own(find_code(network, "--model"), channels=3, outputs=1, sizes=[(32, 32), (32, 64)], seed=0)
        (loss,) = re.findall(r"--loss (my_\S+)", text)
        declaration = declare_loss(loss)
        check_own_loss(declaration, "binary", 2)
        check_own_loss(declaration, "multiclass", 4)
        (line,) = re.findall(r"`(my_\w+:\w+: .*)` under `losses`", text)
        (tmp_path / "space.yaml").write_text(f"{{version: 1, task: binary, nuisance: {{lr: 1}}, losses: {{{line}}}}}")
        assert load_space("space.yaml").families[0].family == declaration.name
        (metric,) = re.findall(r"--metric (my_\S+)", text)
        check_metric(find_code(metric, "--metric"), 4)
    finally:
        for name in ("my_nets", "my_losses", "my_metrics"):
            sys.modules.pop(name, None)
        for name in list(OWN):
            del OWN[name], FAMILIES[name]


@pytest.mark.slow
def test_a_sweep_trains_an_own_network_and_is_not_resumed_with_changed_code(nets: str, tmp_path: Path) -> None:
    outcome = run_small_sweep(tmp_path, model=f"{nets}:build", workers=1, trials=3)
    recipe = outcome.sweep.conditions.recipe
    assert recipe.model is not None and recipe.model.name == "own_nets:build"
    text = outcome.paths.markdown.read_text("utf-8")
    assert "own\\_nets:build" in text or "own_nets:build" in text
    (tmp_path / "own_nets.py").write_text(NETS + "\n# another\n")
    with pytest.raises(StudyError, match="SHA-256 of the source of own_nets:build"):
        run_small_sweep(tmp_path, resume=True, workers=1, trials=4)
