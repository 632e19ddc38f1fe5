"""`sweeper export --huggingface`: the folder is read by segmentation-models-pytorch and by the Hub's own library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from huggingface_hub import ModelCard

from sweeper.core.errors import UsageError
from sweeper.core.own_code import OwnCode
from sweeper.core.paths import weights_dir
from sweeper.core.records import Dataset
from sweeper.data import open_store
from sweeper.deployment.export_huggingface import FILES, model_card, write_folder
from sweeper.deployment.recommended_network import Answer
from sweeper.training.model import load_network
from sweeper.training.network_formats import write_network
from sweeper.training.weights_file import kept_weights
from tests.deployment.test_export import trained
from tests.report.test_report import CLEAR, recommended
from tests.support import builders


def recommends() -> Answer:
    """A study of two classes with a clear winner."""
    found = recommended(builders.evidence(CLEAR))
    assert found.recommended is not None
    return Answer(builders.sweep(), found, found.recommended)


def test_the_folder_is_read_by_the_library_and_its_answers_are_those_of_the_network(
    tmp_path: Path, tiny: Dataset
) -> None:
    trained(tiny, tmp_path)
    ((path, record),) = kept_weights(weights_dir(tmp_path / "cache", "s"))
    answer = recommends()
    write_folder(answer, path, tmp_path / "hub")
    assert sorted(FILES) == sorted(file.name for file in (tmp_path / "hub").iterdir())
    card = ModelCard.load(tmp_path / "hub" / "README.md")
    assert card.data.library_name == "segmentation-models-pytorch"
    assert card.data.eval_results is not None and card.data.eval_results[0].metric_type == "mean_iou"
    line = next(line for line in card.text.splitlines() if "smp.from_pretrained" in line)
    names: dict[str, object] = {"smp": smp}
    exec(line.replace("FOLDER_OR_REPOSITORY", str(tmp_path / "hub")), names)
    model, own = names["model"], load_network(path, record, torch.device("cpu"))
    assert isinstance(model, torch.nn.Module)
    images = torch.randn(2, record.channels, 64, 96)
    with torch.no_grad():
        assert torch.allclose(model(images), own(images), atol=1e-5)  # ours lies in memory otherwise


@pytest.mark.slow
def test_the_code_in_the_card_runs_where_sweeper_is_not(tmp_path: Path, tiny: Dataset) -> None:
    trained(tiny, tmp_path)
    ((path, _),) = kept_weights(weights_dir(tmp_path / "cache", "s"))
    write_folder(recommends(), path, tmp_path / "hub")
    image = np.asarray(open_store(tiny.store).image(0)).transpose(2, 0, 1)[None]
    np.save(tmp_path / "hub" / "images.npy", image)
    card = (tmp_path / "hub" / "README.md").read_text("utf-8")
    code = next(block for block in card.split("```")[1::2] if "from predict" in block).removeprefix("python\n")
    before = (
        "import sys, numpy, torch; sys.modules['sweeper'] = None\nimages = torch.from_numpy(numpy.load('images.npy'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{before}{code}\nprint(classes.shape, int(classes.max()) < 2)"],
        cwd=tmp_path / "hub",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "torch.Size([1, 64, 64]) True", done.stderr


def test_what_cannot_be_written_is_refused_in_words(tmp_path: Path, tiny: Dataset) -> None:
    trained(tiny, tmp_path)
    ((path, record),) = kept_weights(weights_dir(tmp_path / "cache", "s"))
    own = record.model_copy(update={"model": OwnCode(name="nets:build", digest="0", folder=".")})
    with pytest.raises(UsageError, match="this one is nets:build"):
        write_network(path, own, tmp_path)


def test_names_in_the_card_are_text(tmp_path: Path, tiny: Dataset) -> None:
    trained(tiny, tmp_path)
    ((_, record),) = kept_weights(weights_dir(tmp_path / "cache", "s"))
    hostile = record.model_copy(update={"classes": ("<script>alert(1)</script>", "a\n# b | c")})
    text = model_card(recommends(), hostile, whole=True)
    assert "<script" not in text and "\n# b" not in text and "strict" not in text
