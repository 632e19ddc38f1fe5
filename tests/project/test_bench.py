"""Benchmarks describe themselves, measure what they claim, and accept unusual files and options."""

from __future__ import annotations

import ast
import json
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scipy import stats

from bench import ledger, recipe, retraining, sweep, transfer
from bench.data import make_sparse_store
from bench.fold_corrections import BATCH, Design, list_tables
from bench.shared import BASELINE, append_row, read_rows, resume_rows, select_part
from sweeper.data import open_store
from sweeper.study.loop import run_work
from tests.support import builders
from tests.support.faking import FakeExecutor
from tests.support.sweeping import Recorder

SCRIPTS = [
    path for path in sorted(Path(__file__).parents[2].glob("bench/*.py")) if "__main__" in path.read_text("utf-8")
]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_each_script_prints_its_command(path: Path) -> None:
    text = path.read_text("utf-8")
    description = ast.get_docstring(ast.parse(text)) or ""
    assert f"\n    python bench/{path.name}" in description
    assert "argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)" in text


def test_rows_of_a_new_file_are_none_and_new_ones_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with pytest.raises(FileNotFoundError):  # a table of a misspelt file would be empty
        read_rows(path)
    assert resume_rows(path) == []
    append_row(path, {"loss": "dice", "τ": 0.5})
    assert resume_rows(path) == read_rows(path) == [{"loss": "dice", "τ": 0.5}]


def test_parts_divide_all_items() -> None:
    assert select_part("abcde", "1/2") == "ace" and select_part("abcde", "2/2") == "bd"


def test_a_sparse_store_is_read_as_a_store(tmp_path: Path) -> None:
    dataset = make_sparse_store(tmp_path, 101, 8)
    store = open_store(dataset.store)
    assert [int(store.get_mask(i).sum()) for i in (0, 1, 100)] == [8, 0, 8]


def test_sweeper_and_the_plain_loop_train_the_same_network_on_the_same_crops() -> None:
    from bench import fixed, plain_loop
    from sweeper.training.model import build_model

    settings = fixed.make_recipe(100, "float32")
    assert (settings.size, settings.batch_size) == (plain_loop.SIZE, plain_loop.BATCH_SIZE)
    ours = build_model(settings, channels=3, bias=(-2.2,), seed=0)
    shapes = {name: values.shape for name, values in plain_loop.make_network(tuned=False).named_parameters()}
    assert all(shapes[name] == values.shape for name, values in ours.named_parameters())  # ours drops unused stages


def test_the_loop_runs_fixed_trainings() -> None:
    from bench.fixed import FixedTrainings

    specs = [builders.spec("dice", number) for number in range(3)]
    recorder = Recorder()
    work = FixedTrainings(specs, recorder)
    assert run_work(FakeExecutor(), work, lambda: None)
    assert [result.spec for result in work.results] == specs and recorder.results == work.results


def test_sweeper_searches_with_the_network_of_the_plain_loop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commands: list[tuple[str, ...]] = []

    def run(folder: Path, *words: str) -> tuple[str, float]:
        commands.append(words)
        raise InterruptedError

    monkeypatch.setattr(sweep, "run_python", run)
    with pytest.raises(InterruptedError):
        sweep.run_sweeper(tmp_path / "data", tmp_path, 3)
    assert "--encoder-weights none" in " ".join(commands[0])


def test_a_difference_on_one_seed_has_no_standard_error() -> None:
    assert sweep.format_gap({"mean": 0.1, "standard_error": None}) == "+0.1000"
    assert sweep.format_gap({"mean": 0.1, "standard_error": 0.02}) == "+0.1000 (standard error 0.0200)"


def test_the_table_of_recipes_is_printed_for_a_single_data_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = {"dice": (0.6, 0.5), "cross_entropy": (0.5, 0.7), "focal": (0.4, 0.4)}
    for family, (val, test) in scores.items():
        for rate in recipe.LEARNING_RATES:
            row = {"data": "d", "recipe": "8/64/8", "family": family, "lr": rate, "seed": 0, "seconds": 2.0}
            append_row(tmp_path / "rows", {**row, "val": val, "test": test})
    recipe.print_table(Namespace(out=tmp_path / "rows"))
    assert capsys.readouterr().out.splitlines()[-1] == "| 8/64/8 | 2.0 | 0.33 | 0.200 | 0.2000 |"


def write_report(folder: Path, *, use: str | None, scores: dict[str, float], rows: Path) -> None:
    """Write a report of a study, with a first look of dice, and a row for each loss that was trained again."""
    folder.mkdir()
    losses = [{"loss": name, "params": {"mix": 0.2}, "lr": 1e-3} for name in scores]
    document = {"study": folder.name, "present": "focal", "losses": losses, "dataset": {"name": "s"}}
    document["use"] = None if use is None else {"loss": use}
    (folder / "recommendation.json").write_text(json.dumps(document))
    first = "purpose,number,family,params.mix,params.gamma,lr\nfirst,0,focal,0.2,,0.001\nfirst,1,dice,0.2,,0.001\n"
    (folder / "trials.csv").write_text(first + "first,2,dice,0.2,,0.002\n")
    for loss, score in zip(losses, scores.values(), strict=True):
        append_row(rows, {"set": "s", "family": loss["loss"], "params": loss["params"], "lr": 1e-3, "test": score})


def test_reports_without_a_recommendation_are_left_out(tmp_path: Path) -> None:
    for name, use in (("a", "dice"), ("b", None)):
        write_report(tmp_path / name, use=use, scores={}, rows=tmp_path / "rows")
    assert [report["study"] for report in retraining.read_reports([str(tmp_path)])] == ["a"]
    assert transfer.read_reports is retraining.read_reports


def test_a_study_is_compared_with_all_studies_with_itself_and_with_its_first_look(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows"
    write_report(tmp_path / "first", use="focal", scores={"focal": 0.5, "dice": 0.6}, rows=rows)
    write_report(tmp_path / "second", use="lovasz", scores={"lovasz": 0.7}, rows=rows)
    write_report(tmp_path / "third", use="lovasz", scores={}, rows=rows)
    report = {"losses": [{"loss": "lovasz", "params": {"mix": 0.9}, "lr": 1e-3}], "use": {"loss": "lovasz"}}
    changed = {**json.loads((tmp_path / "third" / "recommendation.json").read_text()), **report}
    (tmp_path / "third" / "recommendation.json").write_text(json.dumps(changed))
    retraining.print_table(Namespace(out=rows, reports=[str(tmp_path)]))
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| s | first | focal | 0.500 | 0.200 | 0.100 | 0.100 |",
        "| s | second | lovasz | 0.700 | 0.000 | 0.000 | -0.100 |",
    ]


def test_the_plan_of_the_ledger_times_only_a_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = [0.0]

    class Point:
        def __init__(self, *_: object) -> None:
            seconds[0] += 1000  # the data set is drawn

        def train(self, *arguments: object) -> None:
            seconds[0] += 6 if arguments[-1] == ledger.STEPS else 100  # the first training loads libraries

    monkeypatch.setattr(ledger, "Point", Point)
    monkeypatch.setattr(ledger.time, "monotonic", lambda: seconds[0])
    ledger.print_plan(Namespace(seeds=2))
    number, _, minutes = capsys.readouterr().out.partition(" trainings of 43 data sets: ")
    assert minutes.startswith(f"{int(number) / 10:.0f} min on one core")


def test_intervals_of_the_ledger_use_the_degrees_of_freedom_of_all_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ledger, "load_point", lambda _: SimpleNamespace(task="binary"))
    monkeypatch.setattr(ledger, "profile_dataset", lambda _: None)
    monkeypatch.setattr(ledger, "compute_features", lambda _: {})
    for seed, gain in enumerate((0.01, 0.02, 0.03)):
        for family, test in ((BASELINE, 0.5), ("dice", 0.5 + gain)):
            row: dict[str, Any] = {"point": "street", "family": family, "number": 0, "seed": seed, "lr": 1e-3}
            append_row(tmp_path / "rows", {**row, "steps": 100, "test": test})
    ledger.print_table(Namespace(out=[tmp_path / "rows"], seeds=3))
    cells = capsys.readouterr().out.splitlines()[-1].split(",")
    half = stats.t.ppf(0.975, 2) * 0.01 / 3**0.5
    assert [float(cell) for cell in cells[-4:-1]] == pytest.approx([0.02, 0.02 - half, 0.02 + half], abs=1e-4)


def test_few_tables_of_cross_validations_are_rounded_up() -> None:
    assert len(list(list_tables(Design(2, 3, 12, features=1), 1))) == BATCH
