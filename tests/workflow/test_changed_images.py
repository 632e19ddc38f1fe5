"""Decoded images that change while a study is trained: found before anything is concluded from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sweeper import storage as studies
from sweeper.core.errors import ChangedImagesError, SweeperError
from sweeper.core.records import Conditions, Dataset, TrialResult
from sweeper.data import load_dataset
from sweeper.data.cache import changed_since, hold
from sweeper.data.label_maps import DistanceStore
from sweeper.data.store import is_intact, open_store
from sweeper.workflow.conclude import report_study
from sweeper.workflow.request_checks import check_request
from sweeper.workflow.settings import Settings
from sweeper.workflow.status import read_life, status_file
from sweeper.workflow.train import TrainOptions, _dataset, train_recommended
from tests.conftest import TINY
from tests.support import faking
from tests.support.faking import FakeExecutor, fake_result, new_plan, train
from tests.support.sweeping import Recorder, one_figure, sweep_in
from tests.training.test_training import SMALL

TWO_LOSSES = str(Path(__file__).parents[1] / "support/two_losses.yaml")


def spoil(store: Path, name: str = "masks.bin") -> None:
    """Change every second byte of a file, in place."""
    labels = np.memmap(store / name, dtype=np.uint8, mode="r+")
    labels[::2] ^= 1
    labels.flush()


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return load_dataset(TINY, tmp_path / "cache")


@pytest.mark.parametrize("how", ["images.bin", "masks.bin", "truncated", "replaced"])
def test_a_store_that_is_held_is_known_to_have_changed(data: Dataset, how: str) -> None:
    store = Path(data.store)
    held = hold(store)
    beats: list[int] = []
    assert held.changed(lambda: beats.append(1)) == [] and beats
    if how == "truncated":
        (store / "masks.bin").write_bytes(b"")
    else:
        spoil(store, how if how != "replaced" else "masks.bin")
    if how == "replaced":  # another command finds the damage, and decodes the images anew
        assert load_dataset(TINY, store.parent) == data and is_intact(store) and changed_since(store) == []
    assert held.changed() == [how if how == "images.bin" else "masks.bin"]
    held.release()


def test_maps_of_the_labels_are_held_to_their_checksums_too(data: Dataset) -> None:
    store = open_store(data.store)
    expected = DistanceStore(store, (1,)).maps(0).copy()
    assert changed_since(store.folder) == []
    (path,) = store.folder.glob("distances-*/0.npy")
    whole = bytearray(path.read_bytes())
    whole[-100] ^= 1
    path.write_bytes(whole)
    assert changed_since(store.folder) == [f"{path.parent.name}/0.npy"]
    assert np.array_equal(DistanceStore(store, (1,)).maps(0), expected)  # made again
    assert changed_since(store.folder) == []


def test_a_store_that_is_not_there_has_not_changed(tmp_path: Path) -> None:
    assert changed_since(tmp_path / "none") == []


class Spoiler(Recorder):
    """Changes the labels once so many trainings are stored."""

    def __init__(self, cache: Path, after: int) -> None:
        super().__init__()
        self._cache, self._after = cache, after

    def keep(self, result: TrialResult) -> None:
        super().keep(result)
        if len(self.results) == self._after:
            (masks,) = self._cache.glob("*/masks.bin")
            spoil(masks.parent)


@pytest.mark.slow
def test_a_sweep_whose_labels_change_ends_without_a_report_and_names_its_trainings(tmp_path: Path) -> None:
    asked = {"trials": 2, "space": TWO_LOSSES, "confirm_seeds": "1"}
    with pytest.raises(
        ChangedImagesError, match=r"study 'study' did not: masks\.bin in .* changed .*search 0–1.*Find the cause"
    ):
        sweep_in(tmp_path, Spoiler(tmp_path / "cache", after=2), **asked)
    assert not list(tmp_path.rglob("report.md")) and not list(tmp_path.rglob("recommendation.json"))
    url = f"sqlite:///{tmp_path}/sweeper.db"
    life = read_life(status_file(url, "study"))
    assert life is not None and life.state == "failed"
    storage = studies.open_storage(url, create=False)
    load_dataset(TINY, tmp_path / "cache")  # decoded anew: what was trained stays as it was
    assert changed_since(next((tmp_path / "cache").glob("*/masks.bin")).parent) == []
    for use in (
        lambda: report_study(storage, "study", out=tmp_path),
        lambda: studies.load_sweep(storage, "study"),
        lambda: sweep_in(tmp_path, resume=True),
    ):
        with pytest.raises(ChangedImagesError, match="search 0–1"):
            use()


@pytest.fixture
def study(tmp_path: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> studies.SteadyStorage:
    """A study of real images, whose trainings were invented; reports have one figure."""
    monkeypatch.setattr("sweeper.report.write.draw_all", one_figure)
    monkeypatch.setattr(faking, "DATA", data)
    plan = new_plan(conditions=Conditions(dataset=data, recipe=SMALL, seed=0))
    storage = studies.open_storage(f"sqlite:///{tmp_path}/sweeper.db")
    train(studies.create_study(storage, "s", plan), FakeExecutor(fake_result), plan=plan)
    return storage


@pytest.mark.parametrize("use", ["resume", "report"])
def test_after_a_session_that_was_cut_off_the_images_are_checked_first(
    study: studies.SteadyStorage, data: Dataset, tmp_path: Path, use: str
) -> None:
    def used() -> None:
        if use == "resume":
            check_request(study, Settings(study="s", resume=True))
        else:
            report_study(study, "s", out=tmp_path)

    one = studies.load_study(study, "s")
    one.set_user_attr("images_unchanged", studies.pack_value(["search/00000", "search/00002"]))  # of an earlier session
    used()
    spoil(Path(data.store))
    with pytest.raises(ChangedImagesError, match=r"confirm 0–.*, search 1, search 3"):
        used()
    load_dataset(TINY, tmp_path / "cache")
    with pytest.raises(ChangedImagesError):  # though they are whole again
        used()


def test_what_changes_after_the_last_check_spoils_nothing_that_was_trained_before(
    study: studies.SteadyStorage, data: Dataset, tmp_path: Path
) -> None:
    studies.note_unchanged(studies.load_study(study, "s"))
    spoil(Path(data.store))
    check_request(study, Settings(study="s", resume=True))
    paths = report_study(study, "s", out=tmp_path).paths
    assert paths.markdown.exists()


def test_a_disk_that_cannot_be_read_is_no_change(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> int:
        raise OSError(5, "Input/output error")

    held = hold(Path(data.store))
    monkeypatch.setattr("sweeper.data.store.sum_of", fails)
    with pytest.raises(SweeperError, match=r"must be readable.*Input/output error; check the disk"):
        held.changed()
    held.release()


@pytest.mark.slow
def test_a_network_is_not_written_whose_labels_changed_while_it_was_trained(
    study: studies.SteadyStorage, data: Dataset, tmp_path: Path
) -> None:
    options = TrainOptions(cache=tmp_path / "cache", device="cpu", steps=4)

    def spoils(done: int, _: int) -> None:
        if done == 1:
            spoil(Path(data.store))

    with pytest.raises(SweeperError, match=r"masks\.bin changed: .*No weights were written.*decodes the images anew"):
        train_recommended(study, "s", options, speaker=Recorder(), stop=Recorder(), progress=spoils)
    assert not list(tmp_path.rglob("*.safetensors")) and not list(tmp_path.rglob("*.pt"))
    speaker = Recorder()
    assert _dataset(data, options, speaker) == data and is_intact(Path(data.store))
    assert any("damaged" in line for line in speaker.lines)
