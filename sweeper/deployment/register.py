"""`sweeper export --register`: the exported network as a model of MLflow's registry."""

from __future__ import annotations

import importlib.util
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from sweeper.core.errors import SweeperError
from sweeper.training.weights_file import WeightsRecord, read_record

if TYPE_CHECKING:
    from sweeper.deployment.export import ExportDocument


def register_export(made: ExportDocument, name: str, tracking_uri: str) -> str:
    """Register the network that was exported.

    Args:
        made: what `export_study` wrote, weights included.
        name: of the model in the registry; it gets a new version.
        tracking_uri: MLflow's address, which has the study.

    Returns:
        `models:/NAME/VERSION`.

    Raises:
        SweeperError: if there are no weights, or the network cannot be exported.
        UsageError: if MLflow does not answer, lacks the study, or does not take the name.
    """
    from sweeper.tracking.logged_model import ModelText, register_network
    from sweeper.training.served_network import ServedNetwork, example_of

    if made.weights is None:
        raise SweeperError(
            f"--register needs weights that were trained with the recommended loss, and study {made.study!r} has none "
            "beside --cache; a sweep keeps them where it confirms the loss"
        )
    record = read_record(made.weights)
    network = ServedNetwork(_exported_module(made).load(), record)
    requirements = tuple(f"{package}=={version(package).partition('+')[0]}" for package in ("numpy", "torch"))
    text = ModelText(_description(made, record), _params(record), requirements)
    try:
        return register_network(
            tracking_uri, made.study, name, network=network.eval(), example=example_of(record), text=text
        )
    except SweeperError:
        raise
    except Exception as error:  # whatever torch.export meets in a network of another library
        raise SweeperError(
            f"--register: the network ({_network(record)}) could not be written as a model of MLflow: "
            f"{' '.join(str(error).split())[:300]}. What was exported as files is whole: {made.weights}"
        ) from error


def _exported_module(made: ExportDocument) -> Any:
    """The exported model.py."""
    assert made.model is not None
    spec = importlib.util.spec_from_file_location("sweeper_exported_model", made.model)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _params(record: WeightsRecord) -> dict[str, str]:
    params = {"loss.family": record.spec.family, "lr": f"{record.spec.lr:.6g}", "steps": str(record.spec.steps)}
    params |= {f"loss.{name}": f"{value:.6g}" for name, value in record.spec.params.items()}
    point = "threshold" if record.task == "binary" else "tau"
    return {**params, "arch": record.arch, "encoder": record.encoder, point: f"{record.point:.6g}"}


def _description(made: ExportDocument, record: WeightsRecord) -> str:
    rule = (
        "a pixel is foreground from 0.5 on"
        if record.task == "binary"
        else "a pixel's class is that of the highest score"
    )
    classes = ", ".join(record.classes)
    return (
        f"{_network(record)}, trained with `{record.spec.family}` for {record.spec.steps:,} steps by "
        f"sweeper (study {made.study}, {made.verdict.replace('_', ' ')}). Classes: {classes}.\n\n"
        f"Input: images (N, {record.channels}, H, W) float32 with values from 0 to {record.full_scale}, of any size. "
        f"Output: scores from 0 to 1; {rule}: the operating point is inside ({record.point_from})."
    )


def _network(record: WeightsRecord) -> str:
    return f"{record.arch} with {record.encoder}" if record.model is None else record.model.name
