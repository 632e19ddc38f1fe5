"""Files of encoder weights: which are loaded, and how those that do not fit are refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from sweeper.core.errors import UsageError
from sweeper.training.encoder_file import check_file, load_encoder
from tests.support.marks import rest_slow

State = dict[str, Tensor]


def make_encoder(name: str, *, channels: int = 3, depth: int = 5) -> nn.Module:
    encoder: nn.Module = smp.encoders.get_encoder(name, in_channels=channels, depth=depth, weights=None)
    return encoder.eval()


def save_state(state: object, folder: Path) -> str:
    torch.save(state, folder / "w.pth")
    return str(folder / "w.pth")


def compute_deepest_features(encoder: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        features: list[Tensor] = encoder(images)
    return features[-1]


@pytest.mark.parametrize(
    "model",
    [
        "tf_efficientnet_lite0",
        "resnet18",
        "convnext_atto",  # whose stages have other names where it gives features
        "regnetx_002",
        "mobilenetv4_conv_small",
        "edgenext_xx_small",
        "pvt_v2_b0",
    ],
)
@pytest.mark.parametrize("depth", rest_slow([3, 5], 0, 1))
def test_files_of_timm_give_the_features_of_timm(model: str, depth: int, tmp_path: Path) -> None:
    classifier = timm.create_model(model).eval()
    encoder, images = make_encoder(f"tu-{model}", depth=depth), torch.rand(1, 3, 64, 64)
    file = tmp_path / "model.safetensors"
    save_file(classifier.state_dict(), file)
    before = compute_deepest_features(encoder, images)
    check_file(f"tu-{model}", depth, str(file))
    load_encoder(encoder, f"tu-{model}", str(file))
    after = compute_deepest_features(encoder, images)
    levels = classifier.forward_intermediates(images, intermediates_only=True)
    assert not torch.allclose(after, before)
    assert any(one.shape == after.shape and torch.allclose(one, after, atol=1e-4) for one in levels)


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "mobilenet_v2", "resnext50_32x4d"])
def test_files_of_torchvision_are_loaded(name: str, tmp_path: Path) -> None:
    theirs = getattr(torchvision.models, name)().eval().state_dict()
    encoder = make_encoder(name)
    load_encoder(encoder, name, save_state(theirs, tmp_path))
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in encoder.state_dict().items())


def test_published_densenets_are_loaded_despite_older_names(tmp_path: Path) -> None:
    theirs = torchvision.models.densenet121().state_dict()
    older = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", key): value for key, value in theirs.items()}
    assert older.keys() != theirs.keys()
    encoder = make_encoder("densenet121")
    load_encoder(encoder, "densenet121", save_state(older, tmp_path))
    assert torch.equal(encoder.state_dict()["features.conv0.weight"], theirs["features.conv0.weight"])


def _prefix_names(start: str) -> Callable[[State], object]:
    return lambda state: {start + key: value for key, value in state.items()}


@pytest.mark.parametrize("name", rest_slow(["resnet18", "tu-mobilenetv3_small_050"], 0, 1))
@pytest.mark.parametrize(
    "form",
    [
        _prefix_names(""),
        _prefix_names("module."),
        _prefix_names("module.model.encoder."),
        lambda state: {"epoch": 3, "model": state, "optimizer": {"state": {0: {"step": torch.ones(1)}}}},
        lambda state: {"state_dict": {f"model.encoder.{key}": value for key, value in state.items()}},
        lambda state: {"state_dict": {k: torch.zeros_like(v) for k, v in state.items()}, "state_dict_ema": state},
        lambda state: {**state, "decoder.blocks.0.weight": torch.ones(3), "segmentation_head.0.bias": torch.ones(1)},
        lambda state: {key: value.half() for key, value in state.items()},
        lambda state: {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")},
    ],
)
def test_checkpoints_of_trainings_are_loaded(form: Callable[[State], object], name: str, tmp_path: Path) -> None:
    source, target = make_encoder(name), make_encoder(name)
    load_encoder(target, name, save_state(form(source.state_dict()), tmp_path))
    for key, tensor in target.state_dict().items():
        assert torch.allclose(tensor, source.state_dict()[key], atol=2e-3), key


@pytest.mark.parametrize("name", ["resnet18", "tu-tf_efficientnet_lite0"])
@pytest.mark.parametrize("channels", [1, 4])
def test_the_first_layer_is_adapted_to_other_channels_as_the_library_does(name, channels, tmp_path):
    source = make_encoder(name)
    target = make_encoder(name, channels=channels)
    load_encoder(target, name, save_state(source.state_dict(), tmp_path))
    first = next(key for key, tensor in source.state_dict().items() if tensor.ndim == 4)
    theirs = timm.models.adapt_input_conv(channels, source.state_dict()[first])
    assert torch.equal(target.state_dict()[first], theirs)
    if name == "resnet18":
        source.set_in_channels(channels, pretrained=True)  # type: ignore[operator]
        assert torch.allclose(source.state_dict()[first], theirs)


@pytest.mark.parametrize(
    ("name", "state", "words"),
    [
        ("resnet18", lambda: torchvision.models.resnet34().state_dict(), "96 tensors more .*layer1.2.conv1.weight"),
        ("tu-resnet18", lambda: timm.create_model("resnet34").state_dict(), "96 tensors more .*layer1.2.conv1"),
        ("resnet34", lambda: torchvision.models.resnet18().state_dict(), r"80 of its 216 tensors are missing or"),
        ("tu-convnext_atto", lambda: timm.create_model("convnext_femto").state_dict(), "have another shape, "),
        ("resnet50", lambda: torchvision.models.resnext50_32x4d().state_dict(), "layer1.0.conv1.weight among"),
        ("mit_b0", lambda: torchvision.models.resnet18().state_dict(), "tensors are missing"),
        ("resnet18", lambda: {"a": torch.zeros(2)}, "conv1.weight among them; found a and 0 more"),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_the_file_of_another_network_is_refused_in_one_line(name, state, words, tmp_path):
    file = save_state(state(), tmp_path)
    with pytest.raises(UsageError, match=words) as caught:
        check_file(name, 5, file)
    text = str(caught.value)
    assert len(text) - len(file) < 400 and f"give the file of {name}, or the --encoder" in text and "\n" not in text


@pytest.mark.parametrize("state", [{}, {"state_dict": [1]}, {"optimizer": {"a": torch.ones(1)}}, torch.ones(3), [1]])
def test_a_file_without_a_network_is_refused(state: object, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--encoder-weights .* must be a readable state dict: it holds"):
        check_file("resnet18", 3, save_state(state, tmp_path))


def test_checking_a_file_leaves_an_unknown_encoder_to_the_building_of_the_network(tmp_path: Path) -> None:
    check_file("no_such_network", 3, save_state({"a": torch.zeros(1)}, tmp_path))
