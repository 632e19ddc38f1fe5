"""Classes that overlap: a mask of each in its folder, and code that decides as the network was scored."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sweeper.core.label_planes import unpack_planes
from sweeper.core.records import Conditions
from sweeper.data.store import open_store
from sweeper.deployment.export_code import make_model_code
from sweeper.training.engine import StudyTraining
from sweeper.training.training_context import open_context
from sweeper.training.weights_file import read_record
from tests.support.overlapping import make_overlapping
from tests.support.pasting import run_text
from tests.support.small_training import SMALL, spec, train_to_end

Sweeper = Callable[..., tuple[int, str, str]]


def test_each_class_gets_a_mask_at_its_own_threshold(sweeper: Sweeper, tmp_path: Path) -> None:
    cells = make_overlapping(tmp_path / "cache")
    recipe = SMALL.model_copy(update={"steps": 60, "confirm_steps": 60})
    context = open_context(Conditions(dataset=cells, recipe=recipe, seed=0), "cpu")
    training = StudyTraining(spec(purpose="confirm", steps=60, lr=5e-3, keep_predictions=2), context)
    kept = train_to_end(training).predictions
    weights = tmp_path / "w.safetensors"
    training.save_weights(weights)
    record, store = read_record(weights), open_store(cells.store)
    assert kept is not None and isinstance(record.point, tuple)
    for index in kept.images:
        Image.fromarray(store.get_image(index)).save(tmp_path / f"{index}.png")
    images = [tmp_path / f"{index}.png" for index in kept.images]
    status, out, err = sweeper("predict", "--weights", weights, *images, "--out", "answers", "--device", "cpu")
    assert status == 0, err
    assert f"thresholds {record.point[0]:.3g}, {record.point[1]:.3g}, " in " ".join(out.split())
    document = json.loads((tmp_path / "answers" / "predictions.json").read_text("utf-8"))
    assert document["threshold"] == list(record.point) and document["tau"] is None
    for row, index, mask in zip(document["images"], kept.images, kept.masks, strict=True):
        planes = unpack_planes(np.asarray(mask), 3)
        assert row["mask"] == f"masks/*/{index}.png"
        for name, plane in zip(cells.classes, planes, strict=True):
            written = np.asarray(Image.open(tmp_path / "answers" / "masks" / name / f"{index}.png"))
            np.testing.assert_array_equal(written, plane)
            assert row["shares"][name] == plane.mean()
    assert (tmp_path / "answers" / "classes.txt").read_text("utf-8").split() == [*cells.classes]
    module = run_text(
        make_model_code(record).replace('Path(__file__).with_name("', f'Path("{tmp_path}/').replace('")', '")')
    )
    network = module["load"](weights)
    batch = torch.from_numpy(store.get_image(kept.images[0]).transpose(2, 0, 1).copy())[None]
    answer = module["predict"](network, batch)[0].numpy()
    assert (answer == unpack_planes(np.asarray(kept.masks[0]), 3)).mean() > 0.999
    status, _, err = sweeper("predict", "--weights", weights, *images, "--out", "same", "--threshold", "0.5")
    assert status == 0, err
    assert json.loads((tmp_path / "same" / "predictions.json").read_text("utf-8"))["threshold"] == 0.5
