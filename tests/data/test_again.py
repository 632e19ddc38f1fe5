"""The data set once more, on a machine that lacks its decoded images."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sweeper.core.errors import SweeperError
from sweeper.data import load_dataset
from sweeper.data.store import is_complete
from sweeper.data.variants import resized, store_here
from tests.conftest import TINY


def test_what_is_there_is_used_and_what_is_not_is_decoded_again(tmp_path: Path) -> None:
    dataset = load_dataset(TINY, tmp_path / "cache")
    assert store_here(dataset) == Path(dataset.store)
    shutil.rmtree(tmp_path / "cache")
    assert is_complete(store_here(dataset))


def test_a_shrunk_set_is_shrunk_again(tmp_path: Path) -> None:
    dataset = resized(load_dataset("synthetic:cracks?images=15&size=96", tmp_path / "cache"), 64, tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache")
    assert store_here(dataset) == Path(dataset.store)
    assert is_complete(Path(dataset.store))


def test_other_images_and_none_are_refused_with_the_remedy(tmp_path: Path) -> None:
    dataset = load_dataset(TINY, tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(SweeperError, match="holds other images"):
        store_here(dataset.model_copy(update={"digest": "sha256:" + 64 * "0"}))
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(SweeperError, match=r"lacks the decoded images .* cannot read"):
        store_here(dataset.model_copy(update={"source": str(tmp_path / "nowhere")}))
