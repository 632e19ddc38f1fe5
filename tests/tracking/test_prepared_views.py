"""The table that a sweep prepares in MLflow: as tags, from the command line, and as a browser shows them."""

from __future__ import annotations

import base64
import html
import json
import re
import shutil
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from mlflow.tracking import MlflowClient

from sweeper.cli import ui
from sweeper.core.errors import UsageError
from sweeper.core.paths import View, get_view_place
from sweeper.space import list_shipped_spaces, load_space
from sweeper.tracking import list_prepared_studies
from sweeper.tracking.prepared_views import TAG, make_prepared_views
from sweeper.tracking.values import NOTE
from tests.support import builders
from tests.support.mlflow_server import Server, free_port, replace_server
from tests.support.tracked import begin_tracking, train

SPACE = load_space("binary", "binary")
EXPERIMENT_TAG_LIMIT = 5000
"""MLflow refuses longer tags."""


def unpack(tag: str) -> dict[str, Any]:
    view: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(tag.removeprefix("deflate;"))))
    return view


@pytest.mark.parametrize("name", list_shipped_spaces())
def test_views_have_a_column_for_each_coordinate_and_fit_into_a_tag(name: str) -> None:
    space = load_space(name)
    free = {coordinate for family in space.families for coordinate in family.coordinates}
    views = make_prepared_views(free)
    assert max(map(len, views.values())) < EXPERIMENT_TAG_LIMIT
    view = unpack(views[f"{TAG}sweep"])
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`val/miou`", False)
    first = ["params.`loss.family`", "tags.`sweeper.state`", "metrics.`val/miou`", "metrics.`test/miou`"]
    assert view["selectedColumns"][:4] == first
    assert {f"params.`loss.{coordinate}`" for coordinate in free} <= set(view["selectedColumns"])
    assert unpack(views[f"{TAG}finalists"])["orderByKey"] == "metrics.`test/miou`"


def test_views_are_sorted_by_the_metric_of_the_search() -> None:
    views = {name: unpack(view) for name, view in make_prepared_views((), "image_dice").items()}
    assert views[f"{TAG}sweep"]["orderByKey"] == "metrics.`val/value`"
    assert views[f"{TAG}finalists"]["orderByKey"] == "metrics.`test/value`"
    scores = ["metrics.`val/value`", "metrics.`test/value`", "metrics.`val/miou`", "metrics.`test/miou`"]
    assert views[f"{TAG}finalists"]["selectedColumns"][2:6] == scores


def write_sweep(uri: str, study: str) -> str:
    """Write a sweep of three trials and a confirmation, and return the experiment's id."""
    tracker = begin_tracking(uri, study, space=SPACE)
    families = ("weighted_ce", "dice_focal", "focal")
    trials = [builders.trial(family, 0.5 + 0.0625 * n, n) for n, family in enumerate(families)]
    for result in (*trials, builders.confirmation("dice", 101, val=0.65625)):
        train(tracker, result)
    tracker.end_sweep("FINISHED")
    return tracker.mirror.experiment_id


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Server, dict[str, str]]:
    """Return a server, not started, with two sweeps in its store, and the experiments' ids."""
    server = Server(tmp_path_factory.mktemp("views"))
    ids = {"older": write_sweep(server.store, "older")}
    time.sleep(0.01)
    return server, {**ids, "newer": write_sweep(server.store, "newer")}


def test_the_command_prints_the_address_of_the_requested_or_newest_study(
    store: tuple[Server, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, ids = store[0].store, store[1]
    assert list_prepared_studies(uri) == {"newer": ids["newer"], "older": ids["older"]}
    replace_server(monkeypatch)
    for names, expected in (((), "newer"), (("older",), "older")):
        port = free_port()
        arguments = [*names, "--tracking-uri", uri, "--port", str(port)]
        output = CliRunner().invoke(ui.command, arguments, catch_exceptions=False).output
        place = f"http://127.0.0.1:{port}/#/experiments/{ids[expected]}/runs?viewStateShareKey=sweep"
        assert f"{expected}: {place}&" in output and "&compareRunsMode=CHART\n" in output
        assert f"ssh -N -L {port}:127.0.0.1:{port}" in output
    with pytest.raises(UsageError, match="got 'newre', did you mean `newer`"):
        CliRunner().invoke(ui.command, ["newre", "--tracking-uri", uri], catch_exceptions=False)


def test_only_addresses_are_printed_for_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeper.tracking.list_prepared_studies", lambda _: {"cracks": "7"})
    arguments = ["--tracking-uri", "https://me:secret@mlflow.example/team/"]
    done = CliRunner().invoke(ui.command, arguments, catch_exceptions=False)
    assert f"cracks: https://mlflow.example/team/{get_view_place('7')}" in done.stdout and "secret" not in done.output


def test_a_missing_study_is_refused_with_the_commands_that_write_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeper.tracking.list_prepared_studies", lambda _: {"cracks": "7"})
    arguments = ["own", "--tracking-uri", "https://mlflow.example"]
    with pytest.raises(UsageError) as caught:
        CliRunner().invoke(ui.command, arguments, catch_exceptions=False)
    assert "there: sweeper studies sync STUDY --tracking-uri https://mlflow.example. To" in str(caught.value)
    command = "sweeper confirm --study STUDY --resume --tracking-uri https://mlflow.example"
    assert str(caught.value).endswith(f"To write a comparison: {command}")


# --- The description of the sweep ---


def test_the_description_links_to_the_tables_from_the_first_moment(store: tuple[Server, dict[str, str]]) -> None:
    client, ids = MlflowClient(store[0].store), store[1]
    for experiment in ids.values():
        (run,) = client.search_runs([experiment], "tags.`sweeper.kind` = 'sweep'")
        note = run.data.tags[NOTE]
        assert note.startswith(f"[All trainings]({get_view_place(experiment)})")
        assert NOTE not in client.get_experiment(experiment).tags  # a list of experiments shows markdown as it is
        assert f"[the search]({get_view_place(experiment, 'search', charts=True)})" in note.splitlines()[0]


# --- In a browser ---

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
BROWSER = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--window-size=1600,2400"),
]
"""Tall: MLflow draws no chart that is out of sight."""


def in_browser(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that opens a page."""
    installed = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)")
    return pytest.mark.slow(pytest.mark.timeout(600)(installed(test)))


@pytest.fixture(scope="module")
def started_server(store: tuple[Server, dict[str, str]]) -> Iterator[tuple[Server, dict[str, str]]]:
    """Yield the server, started."""
    try:
        store[0].start()
        yield store
    finally:
        store[0].kill()


@in_browser
def test_the_table_opens_with_the_columns_and_the_best_training_first(
    started_server: tuple[Server, dict[str, str]], tmp_path: Path
) -> None:
    server, ids = started_server
    page = render(f"{server.uri}/{get_view_place(ids['newer'])}", tmp_path, "metrics.`val/miou`")
    columns = set(re.findall(r'role="columnheader"[^>]*col-id="([^"]+)"', page))
    parameters = ["loss.family", "loss.gamma", "loss.alpha", "loss.pos_weight", "loss.mix", "lr"]
    assert {f"params.`{name}`" for name in parameters} <= columns
    assert {"metrics.`val/miou`", "metrics.`test/miou`", "tags.`sweeper.state`"} <= columns
    cells = re.findall(r'row-index="(\d+)"|col-id="metrics\.`val/miou`"[^>]*>(.*?)</div>', page, re.DOTALL)
    first: dict[str, str] = {}
    row = ""
    for index, cell in cells:
        row = index or row
        if cell and row:
            first.setdefault(row, re.sub("<[^>]+>", "", cell))
    assert [first[str(index)] for index in range(4)] == ["0.65625", "0.625", "0.5625", "0.5"], first


@in_browser
def test_the_default_table_of_the_experiment_lists_the_trainings(
    started_server: tuple[Server, dict[str, str]], tmp_path: Path
) -> None:
    server, ids = started_server
    page = render(f"{server.uri}/#/experiments/{ids['newer']}/runs", tmp_path, ">sweep<")
    assert all(
        f">{name}<" in page for name in ("sweep", "weighted_ce #0", "dice_focal #1", "focal #2", "dice seed 101")
    )


@in_browser
@pytest.mark.parametrize(
    ("view", "texts"),
    [
        ("search", [">Search<", "Parallel Coordinates", ">loss.family<", ">val/miou vs val_part/miou<"]),
        ("finalists", [">Finalists<", ">test/miou<", 'class="trace bars"', ">val/miou vs val_part/miou<"]),
    ],
)
def test_the_views_have_charts(
    started_server: tuple[Server, dict[str, str]], tmp_path: Path, view: View, texts: list[str]
) -> None:
    server, ids = started_server
    page = render(f"{server.uri}/{get_view_place(ids['newer'], view, charts=True)}", tmp_path, texts[-1])
    assert [text for text in texts if text not in page] == []
    assert ("dice seed 101" in page) == (view == "finalists")  # of which the search has no part


def render(address: str, folder: Path, awaited: str) -> str:
    """Return the page as a new browser renders it, once it has the awaited text."""
    page = ""
    for attempt in range(3):  # the first visit of a cold server may end before its scripts are loaded
        options = ["--dump-dom", "--virtual-time-budget=60000", f"--user-data-dir={folder / str(attempt)}"]
        done = subprocess.run(
            [str(CHROMIUM), *BROWSER, *options, address], capture_output=True, text=True, timeout=150, check=True
        )
        page = html.unescape(done.stdout)
        if awaited in page:
            return page
    return page
