"""Sources of data: a zip file, read like the folder in it; addresses and impossible paths, which are refused."""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path

import pytest

from sweeper.core.errors import DataError
from sweeper.data import load_dataset
from sweeper.data.variants import store_here
from tests.support.folders import folder, join_problems, load_folder


def write_zip(root: Path, archive: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as content:
        for path in sorted(root.rglob("*")):
            content.write(path, prefix + path.relative_to(root).as_posix())
    return archive


def refuse(archive: Path) -> str:
    """Return the problems of an archive and check that no file of it remains."""
    problems = join_problems(archive)
    assert not [path for path in archive.parent.rglob("*") if path.name.startswith((".writing", "evil"))]
    return problems


@pytest.mark.parametrize("prefix", ["", "a set/ünder/"])
def test_a_zip_gives_the_same_data_set_as_its_folder(tmp_path, prefix):
    root = folder(tmp_path / "data", classes="background\ncrack\n", split="stem,split\na,train\nb,\nc,\nd,test\n")
    plain = load_folder(root)
    archive = write_zip(root, tmp_path / "my set.ZIP", prefix)
    with zipfile.ZipFile(archive, "a") as content:
        content.writestr("__MACOSX/images/._a.png", b"x")
    dataset = load_folder(archive)
    assert (dataset.digest, dataset.name, dataset.source) == (plain.digest, "my set", str(archive))
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {"sources", plain.digest.removeprefix("sha256:")}


def test_a_zip_with_windows_separators_is_read(tmp_path):
    root = folder(tmp_path / "data")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as content:
        for path in sorted(root.rglob("*.png")):
            info = zipfile.ZipInfo("name")
            info.filename = rf"set\{path.parent.name}\{path.name}"
            content.writestr(info, path.read_bytes())
    assert load_folder(tmp_path / "set.zip").digest == load_folder(root).digest


def test_only_a_changed_zip_is_unpacked_again(tmp_path, monkeypatch):
    root = folder(tmp_path / "data")
    first = load_folder(write_zip(root, tmp_path / "set.zip"))
    with monkeypatch.context() as patched:
        patched.setattr("sweeper.data.load.unpack_archive", lambda *_: pytest.fail("unpacked again"))
        assert load_folder(tmp_path / "set.zip") == first
    shutil.rmtree(first.store)
    assert store_here(first) == Path(first.store)
    shutil.copy(root / "masks" / "a.png", root / "masks" / "b.png")
    assert load_folder(write_zip(root, tmp_path / "set.zip")).digest != first.digest


def test_problems_of_a_zip_name_the_zip(tmp_path):
    root = folder(tmp_path / "data")
    (root / "masks" / "b.png").unlink()
    archive = write_zip(root, tmp_path / "set.zip")
    assert refuse(archive) == (
        "images/b.png: has no mask; add it (as masks/a.png is that of images/a.png), remove the image, or give a CSV "
        "(image,mask) of those that have one as DATA"
    )
    shutil.rmtree(root / "masks")
    assert f"{archive}: each image must have a mask, found " in refuse(write_zip(root, archive))


def test_no_file_of_an_archive_is_written_outside_its_folder_and_no_link_is_created(tmp_path):
    archive, link = write_zip(folder(tmp_path / "data"), tmp_path / "set.zip"), zipfile.ZipInfo("images/link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "a") as content:
        for name in ("../evil.png", "/evil.png", "images/../../evil.png"):
            content.writestr(name, b"x")
        content.writestr(link, b"/etc/passwd")
    assert "images/link.png: has no mask" in refuse(archive)
    assert not Path("/evil.png").exists() and not (tmp_path.parent / "evil.png").exists()


def test_an_archive_with_two_files_of_one_name_is_refused(tmp_path):
    archive = write_zip(folder(tmp_path / "data"), tmp_path / "set.zip")
    with zipfile.ZipFile(archive, "a") as content, pytest.warns(UserWarning, match="Duplicate"):
        content.write(tmp_path / "data" / "masks" / "a.png", "masks/a.png")
        content.writestr("images/", b"")
        content.writestr("images/", b"")  # a folder may be listed twice
    assert refuse(archive) == "masks/a.png: is in the archive more than once; keep one, or rename the other"


@pytest.mark.parametrize("fault", ["no zip", "cut", "a byte", "a password"])
def test_damaged_and_locked_archives_are_refused(tmp_path, fault):
    archive = write_zip(folder(tmp_path / "data"), tmp_path / "set.zip")
    data = bytearray(archive.read_bytes())
    if fault == "no zip":
        data = bytearray(b"PK")
    elif fault == "cut":
        data = data[: len(data) // 2]
    elif fault == "a password":
        data[data.rindex(b"PK\x01\x02") + 8] |= 1  # flags of the last file, in the archive's table
    else:
        data[data.index(b"a.png") + 30] ^= 0xFF
    archive.write_bytes(data)
    problems = refuse(archive)
    assert "must be a whole zip archive" in problems and ("password required" in problems) == (fault == "a password")


@pytest.mark.parametrize(
    ("address", "printed"),
    [("s3:/bucket/set", "s3://bucket/set"), ("https://me:secret@host/set.zip", "https://***@host/set.zip")],
)
def test_an_address_is_refused_unless_a_folder_has_its_name(tmp_path, monkeypatch, address, printed):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="DATA must name a file or folder of this machine") as caught:
        load_dataset(address, tmp_path)
    assert f"{printed} is an address: copy" in str(caught.value) and "secret" not in str(caught.value)
    folder(tmp_path / address)
    assert len(load_dataset(address, tmp_path / "cache").images) == 4


@pytest.mark.parametrize("source", ["n" * 300, "n" * 300 + ".json", "a\0b", "nothing.yaml"])
def test_an_impossible_path_is_a_problem(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError):
        load_dataset(source, tmp_path / "cache")


def test_a_folder_of_a_similar_name_is_suggested(tmp_path, monkeypatch):
    folder(tmp_path / "cracks")
    assert join_problems(tmp_path / "crack").endswith(f"found nothing there, did you mean `{tmp_path}/cracks`?")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"found nothing there, did you mean `cracks`\?$"):
        load_dataset("crack", Path("cache"))
    with pytest.raises(DataError, match=r"found nothing there, did you mean `cracks/images`\?$"):
        load_dataset("craks/images", Path("cache"))
    with pytest.raises(DataError, match=r"found nothing there; correct the path"):
        load_dataset("zzz", Path("cache"))
