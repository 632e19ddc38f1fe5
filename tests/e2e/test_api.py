"""sweeper in Python: options are checked all at once, a notebook runs, and a script needs no guard."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import runpy
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import sweeper as api
from sweeper.core.errors import RequestError, StudyError, UsageError
from sweeper.workflow import machine_choice
from sweeper.workflow.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs/how-to/notebook.ipynb"
SCRIPT = """
import sweeper
study = sweeper.run(
    "synthetic:blobs?images=24&size=64", study="s", trials=2, steps=4, size=32, batch_size=2, seeds=1, workers=2
)
print(study.name, len(study.trials), study.answer.outcome.value, sep=" | ")
"""


def test_all_problems_of_the_options_are_reported_together() -> None:
    with pytest.raises(RequestError) as error:
        api.run("cracks", trails=5, steps=1, size="large", dry_run=True, class_map=["a"], workers="auto")  # type: ignore[arg-type]
    text = str(error.value)
    assert "the sweep cannot be begun, 5 problems" in text and "class_map" in text
    assert "trails: no option that can be given here, did you mean `trials`?" in text
    assert "dry_run: no option" in text and "steps: " in text and "got 'large'" in text


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"seeds": [3, 8]}, "seeds: must be MIN..MAX or one number, with 1 ≤ MIN ≤ MAX ≤ 100, got [3,"),
        ({"seeds": 3.5}, "got 3.5; for example '3..8'"),
        ({"time": [90]}, "time: must be a duration above 0 of at most a year, like 5400, 90m, 2h or 1h30m, got ["),
        ({"groups": "("}, "groups: must be auto, none, folder or a regular expression"),
    ],
)
def test_a_value_of_another_type_is_refused_with_the_form_to_write(options: dict[str, Any], text: str) -> None:
    with pytest.raises(RequestError) as error:
        api.run(**options)
    assert text in error.value.problems[0] and str(error.value).count("got ") == 1


def test_an_error_before_the_first_training_leaves_nothing_behind(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError, match=r"no study 'none'|holds no studies|there is no file"):
        api.run(study="none", resume=True, workers=0, progress=False)
    assert not list(tmp_path.iterdir())


def test_a_sweep_may_run_in_a_thread_and_without_standard_error(tmp_path: Path, monkeypatch: Any) -> None:
    """Only the main thread of Python may set signal handlers, and pythonw has no streams."""
    monkeypatch.setattr(sys, "stderr", None)
    received: list[Settings] = []

    def refuse(settings: Settings, display: Any, stop: Any, **_: object) -> None:
        display.warn("text")
        stop.defer_signals()
        assert stop.status is None
        received.append(settings)
        raise RequestError("the sweep", ["enough"])

    monkeypatch.setattr("sweeper.workflow.run.run_sweep", refuse)
    options = {"out": str(tmp_path), "workers": "auto"}
    with ThreadPoolExecutor(1) as pool, pytest.raises(RequestError):
        pool.submit(api.run, tmp_path, **options).result()
    assert (received[0].out, received[0].data) == (tmp_path, str(tmp_path))


@pytest.mark.slow
def test_a_script_without_a_main_guard_sweeps_once(tmp_path: Path) -> None:
    """Processes that were started from scratch would run the script again."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("s | ") and done.stdout.count("\n") == 1
    assert "bootstrapping" not in done.stderr


@pytest.mark.slow
def test_the_command_of_a_sweep_repeats_its_numbers(tmp_path: Path, monkeypatch: Any, sweeper: Any) -> None:
    monkeypatch.setattr(machine_choice, "choose_precision", lambda _: "float32")
    options = {"steps": 8, "size": 32, "batch_size": 2, "trials": 3, "seeds": 2, "precision": "auto"}
    first = api.run("synthetic:blobs?images=24&size=64", workers=0, progress=False, seed=3, **options)
    assert "--precision float32" in first.rerun and f"\n{first.rerun}\n" in first.paths.markdown.read_text("utf-8")
    monkeypatch.setattr(machine_choice, "choose_precision", lambda _: "bfloat16")
    again = [*shlex.split(first.rerun)[1:], "--workers", "0", "--json", "--study", "again"]
    status, out, err = sweeper(*again, "--storage", "sqlite:///other.db")
    assert status == 0, err
    before, after = json.loads(first.paths.recommendation.read_text("utf-8")), json.loads(out)
    times = {"study", "seconds", "next"}  # whose commands name the study
    for document in (before, after):
        for row in document["losses"]:
            del row["mlflow_run_ids"]
    assert {k: v for k, v in before.items() if k not in times} == {k: v for k, v in after.items() if k not in times}
    assert [step["code"] for step in before["next"]] == [step["code"] for step in after["next"]]


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    cells = [cell for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    space: dict[str, Any] = {}
    for cell in cells:
        exec(compile("".join(cell["source"]), "notebook", "exec"), space)
    study, again = space["study"], space["again"]
    shown = study._repr_markdown_()
    assert shown.startswith("# ") and "```python" in shown and "](data:image/svg+xml;base64," in shown
    assert repr(study).startswith("Study notebook: ") and len(repr(study)) < 1000 and "\n" not in repr(study)
    assert again.answer == study.answer and again.trials.equals(study.trials)
    assert space["files"].loss.exists() and Path(space["trained"].weights).exists()
    shutil.rmtree(study.paths.folder)
    assert again._repr_markdown_().split("```")[0] == shown.split("```")[0]  # written again
    assert {*space["search"]["purpose"]} == {"search"} and {*space["best"].index} <= {*space["search"]["family"]}
    assert {Path(row.mask).suffix for row in space["masks"].images} == {".png"} and len(repr(space["masks"])) < 500
    assert repr(space["profile"]).startswith("blobs: binary, 24 images")
    with pytest.raises(RequestError, match=r"(?s)seed: Input .*stepz: no option .*did you mean `steps`"):
        study.train(stepz=5, seed=-1)


def test_the_public_names_are_listed_and_a_judgement_prints_its_answer() -> None:
    assert dir(api) == ["Study", "__version__", "confirm", "judge", "load_study", "profile", "run"]
    table = {"method": ["a", "b"] * 4, "seed": [*"00112233"], "score": [0.9, 0.5, 0.91, 0.52, 0.9, 0.49, 0.92, 0.5]}
    assert repr(api.judge(pd.DataFrame(table))).startswith("Take a: no other method gains")


@pytest.mark.parametrize(
    ("source", "options", "text"),
    [(None, {"losses": "dice_ce"}, "--command"), ("nowhere", {"losses": "dice_ce"}, "nowhere: must be a folder"),
     (None, {"command": "python x.py", "losses": "dicee"}, "`dice`"), (None, {"rates": "0"}, "rates: must be above 0")],
)  # fmt: skip
def test_an_impossible_comparison_is_refused(
    tmp_path: Path, monkeypatch: Any, source: str | None, options: dict[str, Any], text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=text):
        api.confirm(source, **options)


def test_editors_know_each_option() -> None:
    stub = runpy.run_path(str(ROOT / "docs/site/stub.py"))["make_stub"]()
    assert (ROOT / "sweeper/__init__.pyi").read_text("utf-8") == stub, "`make docs` writes it again"
    functions = {n.name: n for n in ast.walk(ast.parse(stub)) if isinstance(n, ast.FunctionDef)}
    options = {name: [one.arg for one in node.args.kwonlyargs] for name, node in functions.items()}
    assert options["run"] == ["progress", *(name for name in Settings.model_fields if name != "data")]
    assert [*inspect.signature(api.run).parameters] == ["data", *options["run"]]
    for name in ("train", "predict", "confirm"):
        command = importlib.import_module(f"sweeper.cli.{name}").command
        usual = {"storage", "as_json", "weights", "study", "study_and_images", "source", "dry_run"}
        assert {one.name for one in command.params} - usual == {*options[name]} - {"progress", "storage", "study"}
    assert "workers: int | None | Literal['auto'] = None" in stub and "seeds: str | int | None = None" in stub
    assert all("**" not in ast.unparse(node.args) for node in functions.values())
