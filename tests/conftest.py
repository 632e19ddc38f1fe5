"""Fixtures for all tests."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from sweeper.cli.main import main
from sweeper.core.records import Dataset
from sweeper.data import load_dataset
from tests.support.postgres_server import Server, run_server
from tests.support.schemas import check_printed

os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub is imported: no test asks for weights of the internet

TINY = "synthetic:cracks?images=15&size=64&foreground=0.05"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that have the most slow tests: a long file that is begun last leaves one core idle."""
    slow: Counter[Path] = Counter()
    tests: Counter[Path] = Counter()
    for item in items:
        tests[item.path] += 1
        slow[item.path] += item.get_closest_marker("slow") is not None
    items.sort(key=lambda item: (-slow[item.path], -tests[item.path], item.path))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that needs a GPU if there is none, whatever `-m` says."""
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("no GPU that torch can use")


@pytest.fixture(scope="session", autouse=True)
def set_one_thread() -> None:
    """Let torch use one thread: tiny networks lose time to threads that wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def restore_torch_settings() -> Iterator[None]:
    """Restore torch's settings after each test.

    Commands that train in this process take all its cores and round tiny numbers to 0; no other test may see that, as
    sums over threads differ in their last digits.
    """
    yield
    torch.set_num_threads(1)
    torch.set_flush_denormal(False)
    if torch.are_deterministic_algorithms_enabled():  # the setter imports torch's compiler, which takes seconds
        torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def check_environment() -> Iterator[None]:
    """Check that no test leaves an address or folder to later tests and processes."""
    before = _list_places()
    yield
    after = _list_places()
    if after != before:
        for name in after.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
    assert after == before


def _list_places() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(("SWEEPER_", "MLFLOW_TRACKING"))}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Fifteen small synthetic images of cracks, decoded."""
    return load_dataset(TINY, tmp_path_factory.mktemp("tiny-cache"))


@pytest.fixture(scope="session")
def tiny_street(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Fifteen small synthetic road scenes with five classes."""
    return load_dataset("synthetic:street?images=15&size=64", tmp_path_factory.mktemp("street-cache"))


@pytest.fixture
def real_data() -> Path:
    """Folder of the real images."""
    folder = os.environ.get("SWEEPER_REAL_DATA")
    if not folder:
        pytest.skip(reason="set SWEEPER_REAL_DATA to the folder of the real images")
    return Path(folder).resolve()


@pytest.fixture
def sweeper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in an empty folder, and return (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sweeper", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capfd.readouterr()
        check_printed(out)
        return int(caught.value.code or 0), out, err

    return run


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """Yield a PostgreSQL server; `fresh()` gives the address of an empty database."""
    with run_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of an empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/shared.db"
    server: Server = request.getfixturevalue("postgres")
    return server.fresh()
