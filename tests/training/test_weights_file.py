"""Files of networks: a damaged one is refused by its checksum wherever it is read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sweeper import storage as studies
from sweeper.core.errors import UsageError
from sweeper.core.records import TrialSpec
from sweeper.deployment.export import export_study
from sweeper.deployment.export_code import make_model_code
from sweeper.deployment.predict import load_from_file, load_from_study
from sweeper.study.finalist import derive_confirmation_seed
from sweeper.training.model import load_network
from sweeper.training.weights_file import HEADER, SEAL, read_record
from tests.deployment.test_export import keep, read_use
from tests.support.faking import FakeExecutor, fake_result, new_plan, train
from tests.support.pasting import run_text


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """Return the recommended network of a study `s` in the folder, whose trainings were invented."""
    study = studies.create_study(studies.open_storage(f"sqlite:///{tmp_path}/sweeper.db"), "s", new_plan())
    train(study, FakeExecutor(fake_result), plan=new_plan())
    chosen = read_use(tmp_path)
    steps = studies.read_plan(
        studies.open_storage(f"sqlite:///{tmp_path}/sweeper.db"), "s"
    ).conditions.recipe.confirm_steps
    return keep(
        tmp_path,
        TrialSpec(
            purpose="confirm", number=4, family=chosen.loss, params=chosen.params, lr=chosen.lr,
            steps=steps, seed=derive_confirmation_seed(0, 0),
        ),
    )  # fmt: skip


def flip_bit(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def find_exponent_bit(path: Path) -> int:
    """Return a high bit of the exponent of the last weight: little-endian float32 at the end of the file."""
    return 8 * path.stat().st_size - 2


def test_every_single_flipped_bit_of_a_network_is_detected(network: Path) -> None:
    rng, refused = np.random.default_rng(0), 0
    for bit in [*rng.integers(8 * network.stat().st_size, size=99), find_exponent_bit(network)]:
        flip_bit(network, int(bit))
        with pytest.raises(UsageError, match=r"every byte as it was written: .*`sweeper train STUDY`"):
            read_record(network)
        refused += 1
        flip_bit(network, int(bit))
    assert refused == 100
    assert read_record(network).point == 0.4


def test_a_damaged_network_is_neither_exported_nor_used(network: Path, tmp_path: Path) -> None:
    storage, cache, record = (
        studies.open_storage(f"sqlite:///{tmp_path}/sweeper.db"),
        tmp_path / "cache",
        read_record(network),
    )
    export = export_study(storage, "s", out=tmp_path, cache=cache).weights
    assert export is not None and load_from_study(storage, "s", cache).path == network
    before = {name: tensor.clone() for name, tensor in load_file(network).items()}
    flip_bit(network, find_exponent_bit(network))
    assert any(
        bool((before[name] != tensor).any()) for name, tensor in load_file(network).items()
    )  # safetensors takes it
    message = rf"{network.name} must be .*its checksum is [0-9a-f]{{12}}…, and [0-9a-f]{{12}}… was written"
    for use in (
        lambda: export_study(storage, "s", out=tmp_path / "other", cache=cache),
        lambda: load_from_study(storage, "s", cache),
        lambda: load_from_file(network),
        lambda: load_network(network, record, torch.device("cpu")),
    ):
        with pytest.raises(UsageError, match=message):
            use()
    assert not (tmp_path / "other").exists() or not list((tmp_path / "other").rglob("*.safetensors"))
    assert read_record(export).spec == record.spec  # the earlier export is as it was


def test_exported_code_refuses_a_damaged_network(network: Path, tmp_path: Path) -> None:
    check_file = run_text(make_model_code(read_record(network)), __file__=str(network))["check_file"]
    assert check_file(network) == network
    flip_bit(network, find_exponent_bit(network))
    with pytest.raises(ValueError, match="not as it was written"):
        check_file(network)
    save_file({"x": torch.zeros(1)}, tmp_path / "own.safetensors")  # the user's own, as after more training
    assert check_file(tmp_path / "own.safetensors") == tmp_path / "own.safetensors"


def test_a_file_without_a_seal_is_refused(network: Path) -> None:
    with safe_open(network, framework="numpy") as file:
        metadata = file.metadata()
    assert set(metadata) == {HEADER, SEAL} and json.loads(metadata[HEADER])["point"] == 0.4
    save_file(load_file(network), network, {HEADER: metadata[HEADER]})
    with pytest.raises(UsageError, match="it has no checksum"):
        read_record(network)
