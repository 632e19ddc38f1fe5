"""`sweeper predict`: its masks are those of the evaluation, whatever the image's kind and size."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch import nn

from sweeper.cli.signals import StopRequest
from sweeper.core.errors import InterruptedSweepError, UsageError
from sweeper.core.recipe import Precision
from sweeper.core.records import Conditions, Dataset, TrialResult
from sweeper.core.training_files import get_weights_dir
from sweeper.data import load_dataset, open_store
from sweeper.data.variants import enlarge_mask, resize_dataset
from sweeper.deployment.image_files import find_images
from sweeper.deployment.predict import load_from_file, predict_images
from sweeper.training import evaluation, hardware
from sweeper.training.hardware import probe_device
from sweeper.training.network_in_training import FinalTraining
from sweeper.training.predictor import Predictor
from sweeper.training.training_context import open_context
from sweeper.training.weights_file import WeightsRecord, list_kept_weights, read_record
from sweeper.workflow.settings import PredictOptions
from tests.deployment.test_export import trained
from tests.support.small_training import SMALL, spec

Sweeper = Callable[..., tuple[int, str, str]]


def confirm(
    dataset: Dataset, folder: Path, precision: Precision = "float32", steps: int = 12
) -> tuple[Path, TrialResult]:
    """Return a confirmation in this process, with its file of weights and its label maps of the test images."""
    recipe = SMALL.model_copy(update={"precision": precision, "steps": steps, "confirm_steps": steps})
    result = trained(dataset, folder, recipe, steps=steps, lr=0.01)
    ((path, _),) = list_kept_weights(get_weights_dir(folder / "cache", "s"))
    return path, result


def make_deep_dataset(folder: Path) -> Dataset:
    """Write twelve TIFFs of five 16-bit channels, one of which says where the foreground is; of two sizes."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    rng = np.random.default_rng(0)
    for n in range(12):
        image = rng.integers(0, 30_000, (40 + 5 * (n % 2), 50, 5), dtype=np.uint16)
        mask = np.zeros(image.shape[:2], dtype=np.uint8)
        mask[10 + n : 20 + n, 5:40] = 1
        image[..., 2] += mask * np.uint16(30_000)
        tifffile.imwrite(folder / "images" / f"i{n}.tif", image, photometric="minisblack", planarconfig="contig")
        Image.fromarray(mask).save(folder / "masks" / f"i{n}.png")
    return load_dataset(str(folder), folder.parent / "cache")


def write_images(dataset: Dataset, indices: tuple[int, ...], folder: Path) -> None:
    """Write the stored images as PNG files."""
    folder.mkdir()
    store = open_store(dataset.store)
    for index in indices:
        Image.fromarray(np.asarray(store.get_image(index))).save(folder / f"{dataset.images[index].stem}.png")


@pytest.mark.parametrize(
    "case",
    [
        "binary",
        "multiclass",
        *(pytest.param(case, marks=pytest.mark.slow) for case in ("bfloat16", "deep", "resized", "in tiles")),
    ],
)
def test_the_masks_are_those_of_the_evaluation_byte_for_byte(
    case: str, sweeper: Sweeper, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny: Dataset = request.getfixturevalue("tiny_street" if case == "multiclass" else "tiny")
    if case == "bfloat16":  # any processor computes in it; one that is no faster so predicts in float32
        probed = probe_device("cpu").model_copy(update={"precision": "bfloat16"})
        monkeypatch.setattr(hardware, "probe_device", lambda _: probed)
    if case == "in tiles":
        monkeypatch.setattr(evaluation, "TILE", 32)
        monkeypatch.setattr(evaluation, "HALO", 8)
    native = dataset = make_deep_dataset(tmp_path / "deep") if case == "deep" else tiny
    if case == "resized":
        dataset = resize_dataset(native, 48, tmp_path / "cache")
    steps = 40 if case == "multiclass" else 12  # until several classes are predicted
    path, result = confirm(dataset, tmp_path, "bfloat16" if case == "bfloat16" else "float32", steps)
    evaluated = result.predictions
    assert evaluated is not None and np.mean([mask.mean() for mask in evaluated.masks]) > 0
    if case != "deep":
        write_images(native, evaluated.images, tmp_path / "new")
    inputs = (
        [tmp_path / "new"]
        if case != "deep"
        else [tmp_path / "deep" / "images" / f"{dataset.images[i].stem}.tif" for i in evaluated.images]
    )
    status, _, err = sweeper("predict", "--weights", path, *inputs, "--out", "answers", "--device", "cpu")
    assert status == 0, err
    for index, mask in zip(evaluated.images, evaluated.masks, strict=True):
        image = native.images[index]
        written = np.asarray(Image.open(tmp_path / "answers" / "masks" / f"{image.stem}.png"))
        assert written.tobytes() == enlarge_mask(mask, (image.height, image.width)).tobytes()
        overlay = np.asarray(Image.open(tmp_path / "answers" / "overlays" / f"{image.stem}.png"))
        assert overlay.shape == (*mask.shape, 3)
    document = json.loads((tmp_path / "answers" / "predictions.json").read_text("utf-8"))
    assert [row["name"] for row in document["classes"]] == list(dataset.classes)
    assert result.evaluations[-1].point in (document["threshold"], document["tau"])
    for row in document["images"]:
        share = np.mean(np.asarray(Image.open(tmp_path / "answers" / row["mask"])) == 1)
        assert row["shares"][dataset.classes[1]] == pytest.approx(share)
    assert (tmp_path / "answers" / "classes.txt").read_text("utf-8").split() == list(dataset.classes)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_probabilities_are_the_networks_own_and_masks_use_the_operating_point(
    task: str, sweeper: Sweeper, tmp_path: Path, tiny: Dataset, tiny_street: Dataset
) -> None:
    dataset = tiny if task == "binary" else tiny_street
    path, _ = confirm(dataset, tmp_path)
    write_images(dataset, (0,), tmp_path / "new")
    name = dataset.images[0].stem
    point = 0.3 if task == "binary" else 0.0
    command = ("predict", "--weights", path, tmp_path / "new" / f"{name}.png", "--out", "a", "--probabilities")
    status, out, _ = sweeper(*command, "--threshold", point, "--json")
    document = json.loads(out)
    assert status == 0 and point in (document["threshold"], document["tau"])
    mask = np.asarray(Image.open(tmp_path / "a" / "masks" / f"{name}.png"))
    file = tmp_path / "a" / document["images"][0]["probabilities"]
    if task == "binary":
        shares = np.asarray(Image.open(file))
        assert shares.dtype == np.uint16 and ((shares / 65535 >= 0.3) == mask).mean() > 0.999
        assert sweeper(*command, "--threshold", 1.5, "--overwrite")[0] == 2
    else:
        shares = np.load(file)["probabilities"]
        assert shares.shape == (5, 64, 64) and shares.astype(np.float64).sum(0) == pytest.approx(1, abs=0.01)
        assert (shares.argmax(0) == mask).mean() > 0.99


class Local(nn.Module):
    """Computes each pixel independently of the others, so that tiles give what the whole image gives."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, :1] * 2 - images[:, 1:2] + images[:, 2:]


@pytest.mark.parametrize("size", [(31, 200), (200, 31), (64, 64), (65, 97), (161, 130), (8, 8)])
def test_tiles_cover_every_size_and_leave_no_seam(
    size: tuple[int, int], tmp_path: Path, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_untrained(tmp_path, tiny)
    record = read_record(path)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    predictor = Predictor(path, record, "cpu", "float32", 0.4)
    monkeypatch.setattr(predictor, "_model", Local())
    first = predictor.predict_labels(image, probabilities=True)
    monkeypatch.setattr(evaluation, "TILE", 64)
    monkeypatch.setattr(evaluation, "HALO", 8)
    second = predictor.predict_labels(image, probabilities=True)
    assert first.probabilities is not None and second.probabilities is not None
    assert second.mask.shape == size
    np.testing.assert_allclose(first.probabilities, second.probabilities, atol=2e-3)
    assert (first.mask != second.mask).mean() < 1e-3


def make_untrained(folder: Path, dataset: Dataset) -> Path:
    """Return a file of weights that were not trained."""
    conditions = Conditions(dataset=dataset, recipe=SMALL, seed=0)
    trial = spec(purpose="train", lr=0.01)
    training = FinalTraining(trial, open_context(conditions, "cpu"), (0, 1, 2))
    training.save_network(folder / "model.safetensors", 0.4, "train")
    return folder / "model.safetensors"


def test_unreadable_images_are_listed_and_the_others_are_predicted(
    sweeper: Sweeper, tmp_path: Path, tiny: Dataset
) -> None:
    path = make_untrained(tmp_path, tiny)
    new = tmp_path / "new"
    write_images(tiny, (0, 1), new)
    good = sorted(file.name for file in new.iterdir())
    Image.fromarray(np.zeros((20, 30), dtype=np.uint8)).save(new / "grey.png")
    (new / "empty.png").write_bytes(b"")
    (new / "text.jpg").write_text("no image")
    tifffile.imwrite(new / "five.tif", np.zeros((20, 30, 5), dtype=np.uint8), photometric="minisblack")
    with tifffile.TiffWriter(new / "gis.tif") as file:  # with an overview and a validity mask
        file.write(np.zeros((20, 30, 3), dtype=np.uint8), photometric="rgb", metadata=None)
        file.write(np.zeros((10, 15, 3), dtype=np.uint8), photometric="rgb", subfiletype=1, metadata=None)
        file.write(np.ones((20, 30), dtype=bool), photometric="mask", subfiletype=4, metadata=None)
    tifffile.imwrite(new / "no_data.tif", np.full((20, 30), -1, dtype=np.int16))
    (new / ".hidden.png").write_bytes(b"")
    status, out, err = sweeper("predict", "--weights", path, new, "--out", new / "answers")
    assert status == 1 and "5 images in" in out
    assert (
        err.count("\n  - ") == 3
        and "five.tif: must have 3 channels" in err
        and "empty.png" in err
        and "text.jpg" in err
    )
    masks = sorted(file.name for file in (new / "answers" / "masks").iterdir())
    assert masks == sorted([*good, "gis.png", "grey.png", "no_data.png"])
    # Nothing is overwritten, and earlier predictions are not read as images.
    assert sweeper("predict", "--weights", path, new, "--out", new / "answers")[0] == 2
    status, out, _ = sweeper("predict", "--weights", path, new, "--out", new / "answers", "--overwrite")
    assert status == 1 and "5 images in" in out
    status, _, err = sweeper("predict", "--weights", path, new / "empty.png", "--out", "none")
    assert status == 2 and not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["."], ["a", "b", "sub/a", "sub/c.jpg", "sub/c.png"]),
        (["sub", "a.png"], ["a", "c.jpg", "c.png", "a"]),
        (["a.png", "a.png", "./a.png"], ["a"]),
        (["*.png"], ["a", "b"]),
        (["**/*.png"], ["a", "b", "sub/a", "sub/c"]),
        (["s*/?.jpg"], ["sub/c"]),
        (["odd.txt"], ["odd"]),
        (["missing.png"], "there is none"),
        (["*.gif"], "selects no image"),
        (["s3://bucket/a.png"], "is an address"),
        (["nothing"], "selects no image"),
    ],
)
def test_images_are_found_by_files_folders_and_patterns(
    arguments: list[str], expected: list[str] | str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "nothing").mkdir()
    for name in ("a.png", "b.png", "odd.txt", "sub/a.png", "sub/c.jpg", "sub/c.png", "sub/notes.txt", ".h.png"):
        (tmp_path / name).write_bytes(b"x")
    if isinstance(expected, str):
        with pytest.raises(UsageError, match=expected):
            find_images(arguments)
    elif len(set(expected)) < len(expected):
        with pytest.raises(UsageError, match="a name of its own"):
            find_images(arguments)
    else:
        assert [str(file.name) for file in find_images(arguments)] == expected


def test_a_stopped_prediction_reports_how_many_images_it_predicted(tmp_path: Path, tiny: Dataset) -> None:
    write_images(tiny, (0, 1, 2), tmp_path / "new")
    source, out = load_from_file(make_untrained(tmp_path, tiny)), tmp_path / "out"
    with (
        StopRequest(lambda text: None) as stop,
        pytest.raises(InterruptedSweepError, match=r"after 2 of 3 images; .* predictions.json lists them"),
    ):
        predict_images(
            source,
            [str(tmp_path / "new")],
            PredictOptions(out=out, device="cpu"),
            stop=stop,
            progress=lambda done, total: signal.raise_signal(signal.SIGINT) if done == 2 else None,
        )
    document = json.loads((out / "predictions.json").read_text("utf-8"))
    assert len(document["images"]) == len(list((out / "masks").iterdir())) == 2


def test_weights_that_do_not_fit_and_missing_studies_are_refused(
    sweeper: Sweeper, tmp_path: Path, tiny: Dataset
) -> None:
    assert sweeper("predict", "study", "--out", "o")[0] == 2
    assert sweeper("predict", "study", "x.png", "--out", "o")[0] == 2
    path = make_untrained(tmp_path, tiny)
    record = read_record(path)
    other = record.model_copy(update={"encoder_depth": 4, "decoder_channels": (128, 64, 32, 16)})
    with pytest.raises(UsageError, match="must fit"):
        Predictor(path, WeightsRecord.model_validate(other.model_dump()), "cpu", "float32", 0.5)


def test_predictions_are_not_mixed_with_labels(sweeper: Sweeper, tmp_path: Path, tiny: Dataset) -> None:
    write_images(tiny, (0, 1), tmp_path / "new")
    ((new, labelled),) = [sorted(file.name for file in (tmp_path / "new").iterdir())]
    out = tmp_path / "labelled"
    labels = out / "masks" / "day 1"
    labels.mkdir(parents=True)
    (labels / labelled).write_bytes(b"a label")
    command = ("predict", "--weights", make_untrained(tmp_path, tiny), f"new/{new}", "--out", "labelled")
    for more in ((), ("--overwrite",)):
        status, _, err = sweeper(*command, *more)
        assert status == 2 and "mixed with these labels" in " ".join(err.split())
    assert [file.name for file in out.rglob("*") if file.is_file()] == [labelled]
    (labels / labelled).unlink()
    labels.rmdir()
    (out / "classes.txt").write_text("sky\n")
    status, _, err = sweeper(*command)
    assert status == 2 and "classes.txt" in err and "name another folder" in " ".join(err.split())
    (out / "classes.txt").unlink()
    # Predictions may be added to earlier ones, even stopped ones: their document marks the folder.
    assert sweeper(*command)[0] == 0
    command = (*command[:3], f"new/{labelled}", *command[4:])
    status, output, _ = sweeper(*command, "--overwrite")
    assert status == 0 and {new, labelled} == {file.name for file in (out / "masks").iterdir()}
    first = output.splitlines()[0]
    assert first.startswith("Network: dice, ") and " steps on train; " in first
