"""The normalisation that the encoder's weights need is kept with the network: in training, prediction and exports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sweeper.core.recipe import IMAGENET_MEAN, IMAGENET_STD, Channels, Recipe
from sweeper.core.records import Dataset
from sweeper.core.training_files import get_weights_dir
from sweeper.data import open_store
from sweeper.deployment.export_code import make_model_code
from sweeper.training.model import load_network
from sweeper.training.network_formats import write_onnx
from sweeper.training.predictor import Predictor
from sweeper.training.weights_file import WeightsRecord, list_kept_weights
from tests.deployment.test_export import trained
from tests.support.small_training import SMALL


def train_network(dataset: Dataset, folder: Path, mean: Channels, std: Channels) -> tuple[Path, WeightsRecord]:
    trained(dataset, folder, SMALL.model_copy(update={"input_mean": mean, "input_std": std}))
    (network,) = list_kept_weights(get_weights_dir(folder / "cache", "s"))
    return network


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        pytest.param((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), marks=pytest.mark.slow),
        pytest.param((0.48, 0.46, 0.41), (0.27, 0.26, 0.28), marks=pytest.mark.slow),
    ],
)
def test_the_normalisation_is_kept_with_the_network(
    mean: Channels, std: Channels, tmp_path: Path, tiny_street: Dataset
) -> None:
    path, record = train_network(tiny_street, tmp_path, mean, std)
    assert record.mean == pytest.approx(mean) and record.std == pytest.approx(std)
    code = make_model_code(record)
    assert f"MEAN = torch.tensor({list(record.mean)!r})" in code and f"STD = torch.tensor({list(record.std)!r})" in code
    image = np.asarray(open_store(tiny_street.store).get_image(0))
    pixels = torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float32))
    inputs = (pixels / 255 - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
    with torch.no_grad():
        logits = load_network(path, record, torch.device("cpu"))(inputs)[0]
    mask = Predictor(path, record, "cpu", "float32", 0.0).predict_labels(image).mask
    assert (logits.argmax(0).numpy() == mask).mean() > 0.999
    runtime = pytest.importorskip("onnxruntime")
    write_onnx(path, record, tmp_path / "model.onnx")
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"images": pixels.numpy()})
    assert np.allclose(answer[0], logits.numpy(), atol=1e-3)


def test_trainings_depend_on_the_normalisation_and_older_studies_have_that_of_imagenet(
    tmp_path: Path, tiny_street: Dataset
) -> None:
    before = {k: v for k, v in SMALL.model_dump().items() if not k.startswith("input_")}
    assert Recipe.model_validate(before) == SMALL
    assert (SMALL.input_mean, SMALL.input_std) == (IMAGENET_MEAN, IMAGENET_STD)
    old = trained(tiny_street, tmp_path / "old")
    new = trained(tiny_street, tmp_path / "new", SMALL.model_copy(update={"input_mean": (0.5, 0.5, 0.5)}))
    assert old.evaluations[-1].train_loss != new.evaluations[-1].train_loss
