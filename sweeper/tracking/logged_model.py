"""A trained network as a model in MLflow: with signature and input example, in a format that loads without pickle."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow.entities import LoggedModelOutput
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from sweeper.core.errors import UsageError
from sweeper.core.redact import shown_address
from sweeper.system.system_errors import cause
from sweeper.tracking.mlflow_connection import connect, no_store

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import nn


class ModelText(NamedTuple):
    """What people read beside the model."""

    description: str
    """In markdown."""
    params: dict[str, str]
    requirements: tuple[str, ...]
    """Packages that serve it."""


def register_network(
    uri: str, study: str, name: str, *, network: nn.Module, example: npt.NDArray[np.float32], text: ModelText
) -> str:
    """Log a network as a model of a study's run, and register it.

    Args:
        uri: MLflow's tracking address, which has the study.
        study: its name.
        name: of the registered model; it gets a new version.
        network: (N, channels, H, W) float32 → (N, outputs, H, W) float32, which `torch.export` can export.
        example: such an input with N ≥ 2, H and W that fit to no fixed size.
        text: what people read beside it.

    Returns:
        `models:/NAME/VERSION`.

    Raises:
        UsageError: if the store does not answer, lacks the study, or does not take the name.
    """
    import mlflow

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pytorch
        from mlflow.models import Model, ModelSignature
        from mlflow.types.schema import Schema, TensorSpec

    client, experiment_id, run_id = _sweep_run(uri, study)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    mlflow.set_tracking_uri(client.tracking_uri)  # the flavour knows no client; the command ends after this
    try:
        model = client.create_logged_model(
            experiment_id, name=study, source_run_id=run_id, params=text.params, model_type="segmentation"
        )
        shape = (-1, example.shape[1], -1, -1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of mlflow and torch about each other
            info = Model.log(
                None,
                mlflow.pytorch,
                model_id=model.model_id,
                registered_model_name=name,
                pytorch_model=network,
                signature=ModelSignature(
                    inputs=Schema([TensorSpec(example.dtype, shape)]),
                    outputs=Schema([TensorSpec(example.dtype, (-1, -1, -1, -1))]),
                ),
                input_example=example,
                serialization_format="pt2",
                pip_requirements=list(text.requirements),
            )
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        version: Any = info.registered_model_version
        client.update_model_version(name, str(version), description=text.description)
    except MlflowException as error:
        raise UsageError(
            f"--register {name}: MLflow at {shown_address(uri)} does not take the model: {cause(error)}"
        ) from error
    return f"models:/{name}/{version}"


def _sweep_run(uri: str, study: str) -> tuple[MlflowClient, str, str]:
    """A client of the store, and the ids there of a study's experiment and of its sweep's run, the newest."""
    try:
        client = connect(uri)
        experiment = client.get_experiment_by_name(study)
        runs = experiment and client.search_runs(
            [experiment.experiment_id], "tags.`sweeper.kind` = 'sweep'", max_results=1
        )
    except Exception as error:
        raise no_store(uri, error) from error
    if not experiment or not runs:
        raise UsageError(
            f"--tracking-uri must be an MLflow store that has the study {study!r}, got {shown_address(uri)}; to "
            "write it "
            f"there: sweeper mlflow {study}"
        )
    return client, str(experiment.experiment_id), str(runs[0].info.run_id)
