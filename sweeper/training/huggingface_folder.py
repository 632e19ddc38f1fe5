"""A trained network as a folder of the form that HuggingFace's Hub has, which `smp.from_pretrained` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from sweeper.core.errors import UsageError
from sweeper.training.load_weights import load_network
from sweeper.training.weights_file import WeightsRecord, copy_with_record


def write_network(weights: Path, record: WeightsRecord, folder: Path) -> bool:
    """Write `config.json`, `model.safetensors` and `preprocessor_config.json`.

    Args:
        weights: file of weights.
        record: its header, with the operating point that is to be written.
        folder: where; it exists.

    Returns:
        Whether every weight of the library's network is there: `smp.from_pretrained` needs `strict=False` where the
        encoder is cut, as stages that are never called have no weights.

    Raises:
        UsageError: if the network is the user's own, which the library cannot make, or its weights do not fit.
        OSError: if a file cannot be written.
    """
    if record.model is not None:
        raise UsageError(
            f"--huggingface needs a network of segmentation-models-pytorch, and this one is {record.model.name}; the "
            "export's model.safetensors and model.py hold it"
        )
    network: Any = load_network(weights, record, torch.device("cpu"))
    config = {**network.config, "_model_class": type(network).__name__}
    _write_json(folder / "config.json", config)
    copy_with_record(weights, record, folder / "model.safetensors")
    _write_json(
        folder / "preprocessor_config.json",
        {
            "do_rescale": True,
            "rescale_factor": 1 / record.full_scale,
            "do_normalize": True,
            "image_mean": list(record.mean),
            "image_std": list(record.std),
            "do_pad": True,
            "size_divisor": 2**record.encoder_depth,
        },
    )
    with safe_open(weights, framework="numpy") as file:
        return set(network.state_dict()) == set(file.keys())


def front_matter(name: str, dataset: str, miou: float, trainings: int) -> str:
    """The head of a model card, as the Hub reads it.

    Args:
        name: of the model.
        dataset: name of the data set.
        miou: mean test mIoU in [0, 1] of `trainings` trainings.
        trainings: how many.
    """
    from huggingface_hub import EvalResult, ModelCardData

    card = ModelCardData(
        model_name=name,
        library_name="segmentation-models-pytorch",
        pipeline_tag="image-segmentation",
        tags=["segmentation-models-pytorch", "semantic-segmentation", "pytorch"],
        eval_results=[
            EvalResult(
                task_type="image-segmentation",
                dataset_type="private",
                dataset_name=dataset,
                metric_type="mean_iou",
                metric_value=round(miou, 4),
                metric_name=f"mIoU on the test split, mean of {trainings} trainings",
            )
        ],
    )
    return f"---\n{card.to_yaml()}\n---\n"


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
