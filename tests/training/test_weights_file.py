"""A network that is delivered is the one that was trained: its file is held to its seal wherever it is read."""

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
from sweeper.study.confirmation_specs import derive_confirmation_seed
from sweeper.training.model import load_network
from sweeper.training.weights_file import HEADER, SEAL, read_record
from tests.deployment.test_export import keep, recommended_in
from tests.support.faking import FakeExecutor, fake_result, new_plan, train
from tests.support.pasting import run_text


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Return the recommended network of a study `s` in the folder, whose trainings were invented."""
    study = studies.create_study(studies.open_storage(f"sqlite:///{tmp_path}/sweeper.db"), "s", new_plan())
    train(study, FakeExecutor(fake_result), plan=new_plan())
    chosen = recommended_in(tmp_path)
    steps = studies.read_plan(
        studies.open_storage(f"sqlite:///{tmp_path}/sweeper.db"), "s"
    ).conditions.recipe.confirm_steps
    return keep(
        tmp_path,
        TrialSpec(
            purpose="confirm", number=4, family=chosen.family, params=chosen.params, lr=chosen.lr,
            steps=steps, seed=derive_confirmation_seed(0, 0),
        ),
    )  # fmt: skip


def turn(path: Path, bit: int) -> None:
    whole = bytearray(path.read_bytes())
    whole[bit // 8] ^= 1 << bit % 8
    path.write_bytes(whole)


def exponent(path: Path) -> int:
    """Return a high bit of the exponent of the last weight: little-endian float32 at the end of the file."""
    return 8 * path.stat().st_size - 2


def test_of_a_hundred_single_bits_of_a_network_that_turn_every_one_is_found(kept: Path) -> None:
    rng, found = np.random.default_rng(0), 0
    for bit in [*rng.integers(8 * kept.stat().st_size, size=99), exponent(kept)]:
        turn(kept, int(bit))
        with pytest.raises(UsageError, match=r"every byte as it was written: .*`sweeper train STUDY`"):
            read_record(kept)
        found += 1
        turn(kept, int(bit))
    assert found == 100
    assert read_record(kept).point == 0.4


def test_a_damaged_network_is_neither_exported_nor_used(kept: Path, tmp_path: Path) -> None:
    storage, cache, record = (
        studies.open_storage(f"sqlite:///{tmp_path}/sweeper.db"),
        tmp_path / "cache",
        read_record(kept),
    )
    made = export_study(storage, "s", out=tmp_path, cache=cache).weights
    assert made is not None and load_from_study(storage, "s", cache).path == kept
    before = {name: tensor.clone() for name, tensor in load_file(kept).items()}
    turn(kept, exponent(kept))
    assert any(bool((before[name] != tensor).any()) for name, tensor in load_file(kept).items())  # safetensors takes it
    told = rf"{kept.name} must be .*its checksum is [0-9a-f]{{12}}…, and [0-9a-f]{{12}}… was written"
    for use in (
        lambda: export_study(storage, "s", out=tmp_path / "other", cache=cache),
        lambda: load_from_study(storage, "s", cache),
        lambda: load_from_file(kept),
        lambda: load_network(kept, record, torch.device("cpu")),
    ):
        with pytest.raises(UsageError, match=told):
            use()
    assert not (tmp_path / "other").exists() or not list((tmp_path / "other").rglob("*.safetensors"))
    assert read_record(made).spec == record.spec  # the earlier export is as it was


def test_what_an_export_delivers_tells_elsewhere_that_it_was_damaged(kept: Path, tmp_path: Path) -> None:
    sealed = run_text(make_model_code(read_record(kept)), __file__=str(kept))["sealed"]
    assert sealed(kept) == kept
    turn(kept, exponent(kept))
    with pytest.raises(ValueError, match="not as it was written"):
        sealed(kept)
    save_file({"x": torch.zeros(1)}, tmp_path / "own.safetensors")  # the user's own, as after more training
    assert sealed(tmp_path / "own.safetensors") == tmp_path / "own.safetensors"


def test_a_file_without_a_seal_is_refused(kept: Path) -> None:
    with safe_open(kept, framework="numpy") as file:
        metadata = file.metadata()
    assert set(metadata) == {HEADER, SEAL} and json.loads(metadata[HEADER])["point"] == 0.4
    save_file(load_file(kept), kept, {HEADER: metadata[HEADER]})
    with pytest.raises(UsageError, match="it has no checksum"):
        read_record(kept)
