"""Names that are not UTF-8: in arguments, variables, folders and files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sweeper.core.errors import DataError, UsageError
from sweeper.data import load_dataset
from sweeper.data.image_files import find_images, read_for
from sweeper.data.text_tables import UnreadableFileError
from sweeper.system.names import check_names
from tests.support.folders import folder, image, mask

LATIN = os.fsdecode(b"caf\xe9")
"""A name that is not UTF-8."""


def call(working_folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Return status, standard output and standard error of `sweeper`."""
    done = subprocess.run(
        [sys.executable, "-m", "sweeper", *arguments],
        cwd=working_folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def write_data(root: Path) -> Path:
    return folder(root, {name: mask(0, 1) for name in "abcd"})


def test_other_bytes_in_an_argument_are_refused(tmp_path: Path) -> None:
    status, out, err = call(tmp_path, "profile", str(write_data(tmp_path / LATIN)), "--json")
    assert status == 2
    assert err.startswith("sweeper: argument 2 must be Unicode (UTF-8), found other bytes in ") and "udce9" in err
    assert json.loads(out)["error"]["kind"] == "UsageError"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "x", "--study", LATIN], "argument 4"),
        (["report", "s", "--out", LATIN], "argument 4"),
        (["predict", "s", f"--out={LATIN}"], "argument 3"),
        (["run", f"--storage=postgresql://me:s{LATIN}@host/db"], "argument 2 must be Unicode .* in an address"),
    ],
)
def test_other_bytes_in_options_variables_and_the_working_folder_are_refused(tmp_path, monkeypatch, arguments, words):
    monkeypatch.setattr(sys, "argv", ["sweeper", *arguments])
    with pytest.raises(UsageError, match=words) as caught:
        check_names()
    assert "me:s" not in str(caught.value)
    monkeypatch.setattr(sys, "argv", ["sweeper", "profile", "données"])
    check_names()
    monkeypatch.setenv("SWEEPER_OUT", LATIN)
    with pytest.raises(UsageError, match="SWEEPER_OUT must be Unicode"):
        check_names()
    monkeypatch.delenv("SWEEPER_OUT")
    (tmp_path / LATIN).mkdir()
    monkeypatch.chdir(tmp_path / LATIN)
    with pytest.raises(UsageError, match="the working folder must be Unicode"):
        check_names()


@pytest.mark.parametrize("place", ["images/{}.png", "images/{}/a.png"])
def test_other_bytes_in_the_name_of_an_image_or_its_folder_are_refused(tmp_path: Path, place: str) -> None:
    root = write_data(tmp_path / "data")
    for kind in ("images", "masks"):
        path = root / place.format(LATIN).replace("images", kind)
        path.parent.mkdir(exist_ok=True)
        (root / kind / "a.png").rename(path)
    with pytest.raises(DataError, match=r"caf.udce9.*: file names must be Unicode \(UTF-8\), found other bytes"):
        load_dataset(str(root), tmp_path / "cache")


def test_a_link_to_a_folder_with_other_bytes_in_its_name_is_loaded(tmp_path: Path) -> None:
    (write_data(tmp_path / LATIN) / f"{LATIN}.txt").write_text("x")
    (tmp_path / "link").symlink_to(LATIN)
    dataset = load_dataset(str(tmp_path / "link"), tmp_path / "cache")
    assert dataset.name == "caf\\udce9" and dataset.model_dump_json()


def test_an_image_with_other_bytes_in_its_name_is_not_predicted_and_others_are(tmp_path: Path) -> None:
    image(0).save(tmp_path / f"{LATIN}.png")
    image(1).save(tmp_path / "é.png")
    options = {"channels": 3, "full_scale": 255}
    files = {file.path.name: file.path for file in find_images([str(tmp_path)])}
    assert read_for(files["é.png"], **options)[1] == (12, 16)
    with pytest.raises(UnreadableFileError, match="file names must be Unicode"):
        read_for(files[f"{LATIN}.png"], **options)
