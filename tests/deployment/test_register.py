"""The exported network in MLflow's registry: loaded and served, it answers as the exported files do."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from mlflow.tracking import MlflowClient

from sweeper.core.errors import SweeperError
from sweeper.core.paths import weights_dir
from sweeper.core.records import Dataset
from sweeper.deployment.export import ExportDocument
from sweeper.deployment.export_code import model_code
from sweeper.deployment.register import register_export
from sweeper.training.weights_file import kept_weights
from tests.deployment.test_export import trained
from tests.support.tracked import begun, run_of

NOTHING: dict[str, Any] = dict.fromkeys(ExportDocument.model_fields)
MADE = ExportDocument.model_construct(**{**NOTHING, "study": "registered", "family": "dice", "verdict": "clear_winner"})


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("task", ["binary", pytest.param("multiclass", marks=pytest.mark.exhaustive)])
def test_a_registered_network_is_loaded_and_served_and_answers_as_the_exported_one(
    task: str, tmp_path: Path, tiny: Dataset, tiny_street: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///none.db")  # the command sets it, and ends
    trained(tiny if task == "binary" else tiny_street, tmp_path)
    ((weights, record),) = kept_weights(weights_dir(tmp_path / "cache", "s"))
    weights = weights.rename(tmp_path / "model.safetensors")
    code = tmp_path / "model.py"
    code.write_text(model_code(record), "utf-8")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    sweep = run_of(begun(uri, "registered")).info
    assert (
        register_export(MADE.model_copy(update={"weights": weights, "model": code}), "cracks", uri)
        == "models:/cracks/1"
    )

    loaded, served = mlflow.pytorch.load_model("models:/cracks/1"), mlflow.pyfunc.load_model("models:/cracks/1")
    mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
    specification = importlib.util.spec_from_file_location("exported", code)
    assert specification is not None and specification.loader is not None
    exported = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(exported)
    rng = np.random.default_rng(0)
    for shape in ((1, record.channels, 33, 50), (3, record.channels, 64, 32)):  # neither is the example's
        images = rng.integers(0, record.full_scale, shape).astype(np.float32)
        scores = served.predict(images)
        with torch.no_grad():
            np.testing.assert_array_equal(scores, loaded(torch.from_numpy(images)).numpy())
        answer = (scores[:, 0] >= 0.5) if task == "binary" else scores.argmax(1)
        expected = exported.predict(exported.load(), torch.from_numpy(images)).numpy()
        assert (answer == expected).mean() > 0.999  # rounding may decide a pixel that lies on the threshold
    client = MlflowClient(uri)
    [model] = client.search_logged_models([sweep.experiment_id])
    assert model.source_run_id == sweep.run_id and model.params["loss.family"] == record.spec.family
    [output] = client.get_run(sweep.run_id).outputs.model_outputs
    assert output.model_id == model.model_id
    assert "from 0 to 255" in str(client.get_model_version("cracks", "1").description)


def test_without_weights_nothing_is_registered() -> None:
    with pytest.raises(SweeperError, match="--register needs weights"):
        register_export(MADE, "cracks", "sqlite:///nowhere.db")
