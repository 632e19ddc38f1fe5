"""`sweeper profile` and `sweeper synth` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sweeper.fingerprint.label_checks import Finding
from tests.support.folders import folder, mask

NOISE = np.random.default_rng(0)
UNLIKE: dict[str, list[np.ndarray]] = {
    "noise": [NOISE.integers(0, 2, (64, 64)) for _ in range(6)],
    "a pixel of 40,000": [np.pad([[1]], ((index, 199 - index), (99, 100))) for index in range(20, 80, 10)],
    "mostly empty": [np.pad(np.full((20, 20), index % 3 == 0), 22) for index in range(12)],
    "20 classes": [np.kron(NOISE.integers(0, 20, (8, 8)), np.ones((12, 12))) for _ in range(6)],
}


def test_profile_prints_the_fingerprint(sweeper, tmp_path):
    lines = mask(0, *[1] * 3, height=40, width=50)
    root = folder(tmp_path / "data", dict.fromkeys("abc", lines), classes="ground\n[red]crack[/]\n")
    status, out, err = sweeper("profile", root)
    assert status == 0
    assert "[red]crack[/]" in out  # names are data, not markup
    assert "\x1b" not in out
    assert "7.500" in out and "imbalance 12.3:1" in out and "pos_weight = 12.3" in out and "alpha = 0.9250" in out
    assert "Predicting only ground would score 92.5 % pixel accuracy and 0.463 mIoU" in out
    assert "warning: 3 images have byte-identical masks: (a, b, c); one of" in err
    assert "3 images have" not in out
    assert "warning: 1 mask is byte-identical on different images: a = b = c." in out
    document = json.loads(sweeper("profile", root, "--json")[1])
    assert document["schema"] == "sweeper.profile/1" and document["profile"]["images"] == 3
    assert document["consequences"] and document["warnings"]
    assert (tmp_path / ".sweeper" / "cache" / "sources").is_dir()


def test_profile_accepts_patterns_and_a_class_map_and_reports_assumptions(sweeper, tmp_path):
    root = folder(tmp_path / "data", {stem: mask(0, 1, 2, 3, shift=i) for i, stem in enumerate("abcd")})
    (root / "images").rename(root / "fotos")
    (tmp_path / "map.yaml").write_text("road: [2, 3]\nignore: 1\n")
    options = ("--images", root / "fotos" / "*.png", "--masks", root / "masks" / "{stem}.png")
    status, out, err = sweeper("profile", *options, "--class-map", tmp_path / "map.yaml", "--json")
    assert status == 0, err
    dataset = json.loads(out)["dataset"]
    assert dataset["classes"] == ["background", "road"]
    assert dataset["read_as"] == "--images fotos/*.png --masks masks/{stem}.png"
    assert "Classes were mapped" in json.loads(out)["warnings"][0]
    assert dataset["read_as"] in err
    status, _, err = sweeper("run", "--images", root / "fotos" / "a.png", root / "fotos" / "b.png")
    assert status == 2 and "unexpected extra argument" in err and "Patterns stand in quotes" in err
    status, _, err = sweeper("profile")
    assert status == 2 and "Missing argument 'DATA', or --images with --masks." in err
    (tmp_path / "map.yaml").write_text("3: road\n")
    status, _, err = sweeper("run", root, "--class-map", tmp_path / "map.yaml")
    assert status == 2 and "1 problem in the class map" in err


def test_an_impossible_split_is_reported_once(sweeper, tmp_path):
    split = "stem,split,group\na,,x\nb,,x\nc,,y\nd,,y\n"
    status, out, _ = sweeper("profile", folder(tmp_path / "data", split=split))
    assert status == 0 and "\nsplit: train, validation and test need a group of images each, found 2" in out


def test_profile_accepts_the_data_set_that_synth_writes(sweeper, tmp_path):
    status, out, _ = sweeper("synth", "blobs?images=4&size=64", tmp_path / "out")
    assert status == 0
    assert "4 images" in out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["classes.txt", "images", "masks"]
    assert len(list((tmp_path / "out" / "images").iterdir())) == 4
    document = json.loads(sweeper("profile", tmp_path / "out", "--json")[1])
    assert document["dataset"]["classes"] == ["background", "cell"]
    assert not document["dataset"]["synthetic"]
    status, _, err = sweeper("synth", "blobs?images=4&size=64", tmp_path / "out")
    assert status == 2 and "new or empty" in err


def test_profile_reports_wrong_labels_and_exclude_drops_them(sweeper, tmp_path):
    assert sweeper("synth", "blobs?images=6&size=96", tmp_path / "d")[0] == 0
    (tmp_path / "d" / "masks" / "00003.png").write_bytes((tmp_path / "d" / "masks" / "00001.png").read_bytes())
    status, out, _ = sweeper("profile", tmp_path / "d")
    assert status == 0 and "The label doctor found 1 error, 0 warnings, 0 notes." in out
    assert "error: 00003 carries the mask of 00001" in out
    first = json.loads(sweeper("profile", tmp_path / "d", "--json")[1])
    assert [f["kind"] for f in first["findings"]] == ["identical_masks"]
    for name in ("images", "masks"):
        (tmp_path / "d" / name / "00003.png").unlink()
    status, out, _ = sweeper("profile", tmp_path / "d", "--json")
    second = json.loads(out)
    assert status == 0 and second["findings"] == [] and second["profile"]["images"] == 5


def test_profile_at_a_smaller_size_warns_of_erased_objects(sweeper, tmp_path, monkeypatch):
    root = tmp_path / "d"
    assert sweeper("synth", "shapes?images=4&size=64&object=6&elongation=16", root)[0] == 0
    native = json.loads(sweeper("profile", root, "--json")[1])
    status, out, err = sweeper("profile", root, "--resize", "16", "--json")
    small = json.loads(out)
    assert status == 0 and (native["resized"], small["resized"]) == (None, 16)
    assert native["dataset"]["digest"] != small["dataset"]["digest"] and "erases thin" in err
    monkeypatch.setenv("SWEEPER_RESIZE", "16")
    assert json.loads(sweeper("profile", root, "--json")[1]) == small
    assert sweeper("profile", root, "--resize", "8")[0] == 2


@pytest.mark.parametrize(
    ("severity", "options", "status"),
    [
        ("error", [], 0),
        ("error", ["--fail-on", "warning"], 1),
        ("warning", ["--fail-on", "error"], 0),
        ("warning", ["--fail-on", "warning"], 1),
    ],
)
def test_a_profile_fails_on_the_requested_severity(
    sweeper, monkeypatch: pytest.MonkeyPatch, severity: Any, options: list[str], status: int
) -> None:
    finding = Finding(kind="x", severity=severity, text="Something is found.")
    monkeypatch.setattr("sweeper.cli.profile.examine_labels", lambda *_: [finding])
    exit_status, out, err = sweeper("profile", "synthetic:cracks?images=20&size=64", *options)
    assert exit_status == status and f"{severity}: Something is found." in out, err


@pytest.mark.parametrize(("data", "own"), [("street?images=10", 1), ("cracks?images=10", 0), ("blobs?images=6", 0)])
def test_profile_shows_what_won_on_data_like_these_own_studies_among_them(sweeper, tmp_path, data, own):
    source = f"synthetic:{data}&size=64"
    before = json.loads(sweeper("profile", source, "--json")[1])["advice"]
    example = Path(__file__).parents[2] / "reports" / "example" / "recommendation.json"
    (tmp_path / "reports" / "mine").mkdir(parents=True)
    (tmp_path / "reports" / "mine" / "recommendation.json").write_bytes(example.read_bytes())
    _, out, _ = sweeper("profile", source, "--out", tmp_path / "page")
    advice = json.loads((tmp_path / "page" / "profile.json").read_text("utf-8"))["advice"]
    assert advice["similar"] == before["similar"] + own > 0, "the own study is of a street, like one of these"
    families = [loss["family"] for loss in advice["losses"]]
    rows = out[out.index("What won on data like these") :].splitlines()[2:]
    assert [row.split()[0] for row in rows[: len(families)]] == families
    assert {"dice_ce", "cross_entropy", "tversky"} <= set(families)
    assert advice["stake"] in out and advice["stake"] in (tmp_path / "page" / "profile.md").read_text("utf-8")


@pytest.mark.parametrize("name", UNLIKE)
def test_on_data_unlike_the_ledger_no_gain_is_claimed(sweeper, tmp_path, name):
    masks = {f"{index:02}": Image.fromarray(pixels.astype(np.uint8)) for index, pixels in enumerate(UNLIKE[name])}
    root = folder(tmp_path / "data", masks)
    status, out, err = sweeper("profile", root)
    assert status == 0 and "The data are unlike anything measured: the nearest set, " in out, err
    assert " gains " not in out and "What won" not in out
    advice = json.loads(sweeper("profile", root, "--json")[1])["advice"]
    assert advice["similar"] == 0 and {loss["gain"] for loss in advice["losses"]} == {None}
