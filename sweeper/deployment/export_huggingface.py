"""`sweeper export --huggingface`: write the network as a folder with a model card for the Hub and smp."""

from __future__ import annotations

from pathlib import Path

from sweeper.core.records import FinalistEvidence
from sweeper.core.text import format_count
from sweeper.deployment.export_code import make_model_code
from sweeper.deployment.recommended_network import RecommendedAnswer
from sweeper.report.card import format_card_markdown, make_card
from sweeper.report.facts import collect_facts
from sweeper.report.formatting import (
    describe_network,
    escape_md,
    format_number,
    format_number_interval,
    join_unbroken,
    make_fence,
    make_one_line,
    make_table,
)
from sweeper.training.weights_file import WeightsRecord, read_record

FILES = ("README.md", "config.json", "model.safetensors", "classes.txt", "predict.py")
"""Files of the folder."""


def write_folder(answer: RecommendedAnswer, weights: Path, folder: Path) -> None:
    """Write README.md (the model card), the network, the classes, and predict.py, which prepares images.

    Raises:
        UsageError: if the network is the user's own.
        OSError: if a file cannot be written.
    """
    from sweeper.training.network_formats import write_network

    record = read_record(weights)
    folder.mkdir(parents=True)
    whole = write_network(weights, record, folder)
    (folder / "classes.txt").write_text("".join(f"{make_one_line(name)}\n" for name in record.classes), "utf-8")
    (folder / "predict.py").write_text(make_model_code(record), "utf-8")
    (folder / "README.md").write_text(make_model_card(answer, record, whole=whole), "utf-8")


def make_model_card(answer: RecommendedAnswer, record: WeightsRecord, *, whole: bool) -> str:
    """Make the model card in markdown: use, training, measurements and scope of the network.

    `whole`: whether the folder has every weight that `smp.from_pretrained` expects.
    """
    sweep, chosen = answer.sweep, answer.chosen
    facts = collect_facts(sweep, answer.recommendation)
    card, finalist = make_card(facts), facts.chosen
    dataset = sweep.conditions.dataset
    strict = "" if whole else ", strict=False"
    use = (
        "import segmentation_models_pytorch as smp\n\n"
        f'model = smp.from_pretrained("FOLDER_OR_REPOSITORY"{strict}).eval()'
    )
    cut = (
        ""
        if whole
        else "\n\nStages of the encoder that this network never calls have no weights: hence `strict=False`."
    )
    from sweeper.training.network_formats import make_front_matter

    head = (
        ""
        if finalist is None
        else make_front_matter(sweep.study, dataset.name, finalist.miou.estimate, len(finalist.seeds))
    )
    parts = [
        f"# {escape_md(sweep.study)}",
        f"Semantic segmentation into {format_count(len(record.classes), 'class')}: "
        f"{', '.join(escape_md(name) for name in record.classes)}.",
        "## Use",
        make_fence(use, "python") + cut,
        f"`predict.py` prepares images (values 0 to {record.full_scale}, {format_count(record.channels, 'channel')}, "
        "any size) and applies the operating point. It needs torch, safetensors and segmentation-models-pytorch:",
        make_fence(
            "from predict import load, predict\n\nclasses = predict(load(), images)  # (N, H, W) class indices",
            "python",
        ),
        "## Training",
        f"{_describe_training(record)} Recipe: {escape_md(describe_network(sweep.conditions.recipe))}. Data: "
        f"{escape_md(dataset.name)}, {format_count(len(dataset.images), 'image')}.",
        make_fence(chosen.snippet, "python"),
        "## Evaluation",
        *([] if finalist is None else [_describe_measurements(finalist, record)]),
        "## Why this loss",
        format_card_markdown(card, frozenset({answer.chosen.family, "cross_entropy"})),
        "sweeper compared losses on these images by trainings with fresh seeds on a locked test split. What it says "
        "holds for this data, recipe and budget. Who may use the network depends on the images' licence: name it "
        "before you publish.",
    ]
    return join_unbroken(head + "\n" + "\n\n".join(parts) + "\n").lstrip("\n")


def _describe_training(record: WeightsRecord) -> str:
    what = "One training" if record.spec.purpose == "final" else "One of the trainings that were measured"
    on = {"train": "the training images", "train+val": "the training and validation images", "all": "all images"}
    return f"{what}: {record.spec.steps:,} steps on {on[record.on]}, seed {record.spec.seed}, averaged weights."


def _describe_measurements(finalist: FinalistEvidence, record: WeightsRecord) -> str:
    rows = [
        [escape_md(name), format_number(iou), format_number(precision), format_number(recall)]
        for name, iou, precision, recall in zip(
            record.classes, finalist.iou, finalist.precision, finalist.recall, strict=True
        )
    ]
    return (
        f"Test mIoU {format_number_interval(finalist.miou)} (95 % interval), mean of "
        f"{format_count(len(finalist.seeds), 'training')} with "
        "this configuration, each at its own operating point. These figures are of the configuration, not of this one "
        f"network.\n\n{make_table(['class', 'IoU', 'precision', 'recall'], rows)}"
    )
