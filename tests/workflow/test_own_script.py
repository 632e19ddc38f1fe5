"""`sweeper run --command`: its options, and the space and recipe of its study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweeper.core.errors import RequestError, ScriptError, StudyError
from sweeper.core.recipe import Recipe
from sweeper.losses.families import FAMILIES
from sweeper.scripts.contract import Split
from sweeper.scripts.probe import ProbeDocument
from sweeper.space import load_space
from sweeper.storage import StudyPlan
from sweeper.workflow import own_script
from sweeper.workflow.options import list_stored_options, resolve_request
from sweeper.workflow.own_script import (
    adapt_space,
    check_script_options,
    divide_by_script,
    make_script_recipe,
    resolve_sources,
    warn_of_changed_script,
)
from sweeper.workflow.recipe_choice import describe_recipe
from sweeper.workflow.settings import FinalOptions, Settings
from tests.support import builders

COMMAND = "python train.py"


def make_plan(sources: dict[str, str]) -> StudyPlan:
    return StudyPlan(
        created="2026-01-01T00:00:00+00:00",
        conditions=builders.conditions(),
        profile=builders.profile(),
        space=builders.space(),
        imbalance=9.0,
        versions={},
        sources=sources,
    )


def make_settings(**options: Any) -> Settings:
    return Settings(**{"command": COMMAND, "data": "images", **options})


def test_options_of_sweepers_own_training_are_refused_in_one_list() -> None:
    with pytest.raises(RequestError) as error:
        check_script_options(make_settings(data=None, encoder="resnet18", size=64, metric="boundary_iou"))
    first, second, third = error.value.problems
    assert "leave out --encoder and --size" in first
    assert "--metric boundary_iou needs label maps" in second and "give its folder" in third
    check_script_options(make_settings(trials=5, steps=10, confirm_steps=50, metric="dice", workers=2, time="1h"))


def test_a_study_by_a_script_has_fixed_steps_and_no_final_training_without_a_request() -> None:
    request = resolve_request(list_stored_options(make_settings()))
    assert (request.finds_steps, request.final) == (False, None)
    assert resolve_request(list_stored_options(make_settings(final="auto"))).final == FinalOptions()
    plain = resolve_request({})
    assert (plain.finds_steps, plain.final) == (True, FinalOptions())


def test_steps_are_per_cent_of_the_length_of_the_script() -> None:
    recipe = make_script_recipe(make_settings(), COMMAND)
    assert (recipe.steps, recipe.confirm_steps, recipe.rungs(25)) == (25, 100, (25,))
    assert recipe.format_steps(25) == "25 % of the script's length" and Recipe().format_steps(2500) == "2,500 steps"
    words = describe_recipe(recipe)
    assert words.startswith("your training script, python train.py, 25 % of the script's length a trial, 100 %")
    other = make_script_recipe(make_settings(steps=10, confirm_steps=50, metric="dice"), COMMAND)
    assert (other.steps, other.confirm_steps, other.metric) == (10, 50, "dice")


def test_the_space_has_factors_of_the_rate_and_losses_of_logits_and_labels() -> None:
    lines: list[str] = []
    space = adapt_space(load_space("full"), lines.append)
    assert (space.lr.kind, space.lr.low, space.lr.high) == ("log", 0.1, 10.0)
    excluded = [f.family for f in load_space("full").families if FAMILIES[f.family].needs_map is not None]
    assert excluded and not {*excluded} & {f.family for f in space.families}
    assert all(name in lines[0] for name in excluded)


def test_a_study_is_not_resumed_with_another_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text("one")
    sources = resolve_sources(COMMAND, None)
    plan = make_plan(sources)
    Path("other.py").write_text("new")  # changes nothing that was there
    assert resolve_sources(COMMAND, plan) == sources
    warnings: list[str] = []
    warn_of_changed_script(COMMAND, sources, warnings.append)
    assert not warnings
    Path("train.py").write_text("two")
    with pytest.raises(StudyError, match=r"train\.py changed; put it back, or begin another study"):
        resolve_sources(COMMAND, plan)
    warn_of_changed_script(COMMAND, sources, warnings.append)
    assert warnings == ["later trainings may be of another script: train.py changed meanwhile"]


def test_a_password_in_the_command_is_hidden() -> None:
    recipe = make_script_recipe(make_settings(), "python train.py --db postgresql://me:hunter2@host/db")
    assert "hunter2" not in recipe.command and "train.py" in recipe.command


@pytest.mark.parametrize(
    ("names", "drawn", "answer"),
    [
        (("background", "crack"), (), ""),
        (("crack", "background"), (), "in their order"),
        (("a", "b", "c"), (), "got a, b, c"),
        (("crack",), (), r"trial\(…\) must say overlap=False, as the data's labels do, got overlap=True; change it"),
        (("background", "crack"), ("val",), "images of val must be the same for each seed"),
        (("background", "crack"), ("test",), "got counts and score; .* sweeper confirm .*--command 'python train"),
    ],
)
def test_classes_must_be_those_of_the_data_in_their_order(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], drawn: tuple[Split, ...], answer: str
) -> None:
    data = builders.dataset().model_copy(update={"classes": ("background", "crack")})
    stems = [image.stem for image in data.images]
    probe = ProbeDocument(
        command=COMMAND,
        pairing="exact",
        scores={"val": "counts", "test": "score" if "test" in drawn else "counts"},
        images={"val": 1, "test": 1},
        names={"val": (stems[0],), "test": (stems[1],)},
        drawn=drawn,
        class_pixels=dict.fromkeys(names, 9),
        ignored_pixels=0,
        labelled_pixels=9 if len(names) == 1 else None,
        length=8,
        seconds_per_step=0.1,
        seconds_per_training=3.0,
        notes=(),
        ignore_index=-1,
    )
    monkeypatch.setattr(own_script, "probe_script", lambda *_, **__: probe)
    if answer:
        with pytest.raises(ScriptError, match=answer):
            divide_by_script(data, make_settings(), None, lambda _: None)
    else:
        divided = divide_by_script(data, make_settings(), None, lambda _: None)
        assert [image.split for image in divided.images[:3]] == ["val", "test", "train"]
        resumed = divide_by_script(data, make_settings(), divided, lambda _: None)
        assert divided.script_ignores == resumed.script_ignores == -1
        assert divided.script_scores == resumed.script_scores == "counts"
