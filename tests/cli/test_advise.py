"""`sweeper advise` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

from sweeper.space import load_space

DATA = "synthetic:street?images=10&size=64"


def test_advise_orders_losses_and_says_how_to_check(sweeper):
    status, out, _ = sweeper("advise", DATA)
    assert status == 0
    lines = out.splitlines()
    assert "most similar data sets of the ledger" in lines[0]
    assert {line.split()[0] for line in lines[2:9]} >= {"dice_ce", "cross_entropy", "tversky"}
    assert f"`sweeper run --data {DATA}` checks it" in lines[-1]


def test_advise_writes_a_space_that_run_takes(sweeper, tmp_path):
    status, out, err = sweeper("advise", DATA, "--json", "--space-out", "space.yaml")
    assert status == 0 and "space.yaml" in err
    document = json.loads(out)
    first = document["losses"][0]
    families = {family.family for family in load_space(str(tmp_path / "space.yaml"), "multiclass").families}
    assert {first["family"], "cross_entropy"} <= families < {loss["family"] for loss in document["losses"]}


def test_advise_says_where_the_data_lie_outside_of_the_ledger(sweeper):
    _, out, _ = sweeper("advise", "synthetic:shapes?foreground=0.4&object=120&images=4&size=256")
    assert "Outside of what is known" in out and "- pixels of a component of the smallest class: " in out


def test_own_studies_join_unless_they_are_left_out(sweeper, tmp_path):
    example = Path(__file__).parents[2] / "reports" / "example" / "recommendation.json"
    (tmp_path / "reports" / "mine").mkdir(parents=True)
    (tmp_path / "reports" / "mine" / "recommendation.json").write_bytes(example.read_bytes())
    documents = [json.loads(sweeper("advise", DATA, "--json", *more)[1]) for more in ((), ("--no-own-studies",))]
    assert [document["own_studies"] for document in documents] == [1, 0]
    assert documents[0]["losses"] != documents[1]["losses"]
