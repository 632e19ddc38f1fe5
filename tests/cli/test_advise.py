"""`sweeper advise` as a user types it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sweeper.space import load_space
from tests.support.folders import folder

DATA = "synthetic:street?images=10&size=64"


def test_advise_orders_losses_and_has_the_command_that_checks(sweeper):
    status, out, _ = sweeper("advise", DATA)
    assert status == 0
    lines = out.splitlines()
    assert "12 nearest data sets of the ledger" in lines[0] and "similar" in lines[0]
    assert {line.split()[0] for line in lines[2:9]} >= {"dice_ce", "cross_entropy", "tversky"}
    assert f"`sweeper run {shlex.quote(DATA)}` checks it" in lines[-1]


def test_advise_writes_a_space_that_run_accepts(sweeper, tmp_path):
    status, out, err = sweeper("advise", DATA, "--json", "--space-out", "space.yaml")
    assert status == 0 and "space.yaml" in err
    document = json.loads(out)
    first = document["losses"][0]
    families = {family.family for family in load_space(str(tmp_path / "space.yaml"), "multiclass").families}
    assert {first["family"], "cross_entropy"} <= families < {loss["family"] for loss in document["losses"]}


NOISE = np.random.default_rng(0)
UNLIKE: dict[str, list[np.ndarray]] = {
    "noise": [NOISE.integers(0, 2, (64, 64)) for _ in range(6)],
    "a pixel of 40,000": [np.pad([[1]], ((index, 199 - index), (99, 100))) for index in range(20, 80, 10)],
    "mostly empty": [np.pad(np.full((20, 20), index % 3 == 0), 22) for index in range(12)],
    "20 classes": [np.kron(NOISE.integers(0, 20, (8, 8)), np.ones((12, 12))) for _ in range(6)],
}


@pytest.mark.parametrize("name", UNLIKE)
def test_on_data_unlike_the_ledger_advise_claims_no_gain_and_leaves_no_family_out(sweeper, tmp_path, name):
    root = folder(
        tmp_path / "data",
        {f"{index:02}": Image.fromarray(mask.astype(np.uint8)) for index, mask in enumerate(UNLIKE[name])},
    )
    status, out, err = sweeper("advise", root, "--space-out", "space.yaml")
    assert status == 0 and "The data are unlike anything measured: the nearest set, " in out and "gains" not in out, err
    document = json.loads(sweeper("advise", root, "--json")[1])
    assert document["similar"] == 0
    assert {loss["gain"] for loss in document["losses"]} == {None}
    space = load_space(str(tmp_path / "space.yaml"), document["dataset"]["task"])
    assert len(space.families) == len(document["losses"])
    assert document["stake"] in sweeper("profile", root)[1]


@pytest.mark.parametrize("data", [DATA, "synthetic:cracks?images=10&size=64", "synthetic:blobs?images=6&size=64"])
def test_profile_and_advise_make_the_same_statement_about_the_loss(sweeper, tmp_path, data):
    example = Path(__file__).parents[2] / "reports" / "example" / "recommendation.json"
    for has_own_study in (False, True):
        if has_own_study:  # it counts in both
            (tmp_path / "reports" / "mine").mkdir(parents=True)
            (tmp_path / "reports" / "mine" / "recommendation.json").write_bytes(example.read_bytes())
        stake = json.loads(sweeper("advise", data, "--json")[1])["stake"]
        _, out, _ = sweeper("profile", data, "--out", tmp_path / "page")
        assert stake in out and "worth searching" not in out and "differ little" not in out
        assert stake in json.loads((tmp_path / "page" / "profile.json").read_text("utf-8"))["consequences"]


def test_advise_uses_own_studies_unless_they_are_excluded(sweeper, tmp_path):
    example = Path(__file__).parents[2] / "reports" / "example" / "recommendation.json"
    (tmp_path / "reports" / "mine").mkdir(parents=True)
    (tmp_path / "reports" / "mine" / "recommendation.json").write_bytes(example.read_bytes())
    documents = [json.loads(sweeper("advise", DATA, "--json", *more)[1]) for more in ((), ("--no-own-studies",))]
    assert [document["own_studies"] for document in documents] == [1, 0]
    assert documents[0]["losses"] != documents[1]["losses"]
