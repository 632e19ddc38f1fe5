"""How options are read: ranges of seeds, durations."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sweeper.core.errors import UsageError
from sweeper.core.events import Hardware
from sweeper.core.recipe import Recipe
from sweeper.workflow.options import asked_of, given_options
from sweeper.workflow.recipe_choice import RECIPE_OPTIONS, describe, make_recipe, resumed_recipe
from sweeper.workflow.settings import ROPE, TRIALS, Settings, duration, seed_range
from tests.support import builders

CPU = Hardware(device="cpu", devices=1, name="CPU", precision="float32")
GPU = Hardware(device="cuda", devices=1, name="GPU", precision="bfloat16")
DATA = builders.dataset(side=400)


@pytest.mark.parametrize(
    ("text", "ends"), [("3..8", (3, 8)), ("5", (5, 5)), (2, (2, 2)), (" 3 .. 8 ", (3, 8)), ("100", (100, 100))]
)
def test_seeds_are_a_range_or_one_number(text: str | int, ends: tuple[int, int]) -> None:
    assert seed_range(text) == ends


@pytest.mark.parametrize("text", ["", "8..3", "0", "0..3", "3..", "..8", "3-8", "3..8..9", "-1", "1e2", "3..101", "٣"])
def test_other_seeds_are_refused_with_the_rule_and_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"1 ≤ MIN ≤ MAX ≤ 100, got .*; for example 3\.\.8"):
        seed_range(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        (90, 90),
        ("0.5", 0.5),
        ("90s", 90),
        ("90m", 5400),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1H 30M", 5400),
        ("1.5h", 5400),
        ("1d2h3m4s", 93784),
    ],
)
def test_durations(text: str | float, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "0m", "-5", "soon", "30m1h", "1h1h", "1h30", "5 parsecs", "nan", "inf", "9999999h"]
)
def test_other_durations_are_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="1h30m"):
        duration(text)


@given(st.text(max_size=12))
@settings(max_examples=100, deadline=None)
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    try:
        assert duration(text) > 0
    except ValueError as error:
        assert "must be a duration" in str(error)


def test_settings_keep_one_spelling_and_refuse_the_rest() -> None:
    assert Settings(confirm_seeds=2).confirm_seeds == "2"  # type: ignore[arg-type]
    assert Settings(confirm_seeds="4..4", timeout=" 90m ").model_dump(include={"confirm_seeds", "timeout"}) == {
        "confirm_seeds": "4",
        "timeout": "90m",
    }
    for wrong in ({"confirm_seeds": "8..3"}, {"timeout": "soon"}, {"steps": 3}, {"steps": "many"}):
        with pytest.raises(ValidationError):
            Settings(**wrong)  # type: ignore[arg-type]


def recipe_of(hardware: Hardware = CPU, **options: Any) -> Recipe:
    chosen = Settings(**options)
    return make_recipe(chosen, DATA, hardware, training_images=30, has_weights=lambda _: False, log=lambda _: None)


def test_the_encoders_depth_follows_the_device_or_the_option() -> None:
    assert recipe_of().encoder_depth == 3 and recipe_of(GPU).encoder_depth == 5
    assert recipe_of(encoder_depth=4).encoder_depth == recipe_of(GPU, encoder_depth=4).encoder_depth == 4
    for depth in (2, 6):
        with pytest.raises(ValidationError):
            Settings(encoder_depth=depth)


def test_a_crop_must_fit_the_stride_of_the_depth_that_was_asked_for() -> None:
    assert recipe_of(size=72).size == 72
    with pytest.raises(UsageError, match=r"--size must be a multiple of 32 .*--encoder-depth 5.*, got 72"):
        recipe_of(size=72, encoder_depth=5)


def test_balanced_crops_are_named_and_said_to_change_nothing_where_images_fit_into_them() -> None:
    told: list[str] = []
    side = max(max(p.height, p.width) for p in DATA.images)
    for size in (side - side % 32 - 32, side - side % 32 + 32):
        settings = Settings(crops="balanced", size=size)
        recipe = make_recipe(settings, DATA, CPU, training_images=30, has_weights=lambda _: False, log=told.append)
        assert f"{size}² balanced crops" in describe(recipe)
    assert told == [f"--crops balanced changes nothing: every image of {DATA.name} fits into a crop of {size}²"]
    assert "balanced" not in describe(recipe_of())
    with pytest.raises(ValidationError, match="'uniform' or 'balanced'"):
        Settings(crops="even")  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", ["lesion_f1", "cc_dice", "boundary_iou"])
def test_a_metric_of_objects_is_refused_where_nothing_but_the_first_class_is_labelled(metric: str) -> None:
    assert recipe_of(metric=metric).metric == metric
    bare = [image.model_copy(update={"pixels": (sum(image.pixels), 0)}) for image in DATA.images]
    data = DATA.model_copy(update={"images": tuple(bare)})
    given = {"training_images": 30, "has_weights": lambda _: False, "log": lambda _: None}
    with pytest.raises(
        UsageError, match=f"--metric {metric} needs objects, .*found none in {DATA.name}; check the masks"
    ):
        make_recipe(Settings(metric=metric), data, CPU, **given)  # type: ignore[arg-type]
    assert make_recipe(Settings(metric="image_dice"), data, CPU, **given).metric == "image_dice"  # type: ignore[arg-type]


def test_the_decoder_is_narrow_on_a_cpu_and_as_published_on_a_gpu() -> None:
    assert recipe_of().decoder_channels == (32, 16, 8)
    assert recipe_of(GPU).decoder_channels == (256, 128, 64, 32, 16)
    assert recipe_of(decoder_width=24, encoder_depth=4).decoder_channels == (192, 96, 48, 24)
    assert recipe_of(arch="linknet").decoder_channels is None
    assert Recipe().decoder_width == 16  # of studies that were made before there was a choice


OTHER = {
    "arch": "linknet", "encoder": "resnet50", "encoder_depth": 5, "decoder_width": 24,
    "augment": "full", "size": 32, "batch_size": 4, "crops": "balanced",
    "confirm_steps": 77, "metric": "fg_iou", "threshold": "0.5", "boundary_pixels": 5, "steps": 44,
    "encoder_weights": "imagenet", "engine": "eager", "deterministic": True, "compile": True,
    "precision": "bfloat16",
}  # fmt: skip
"""A value of each option of the recipe that differs from every default."""


@pytest.mark.parametrize("option", OTHER)
def test_each_option_of_the_recipe_is_heeded_by_a_new_study_and_by_a_resume(option: str) -> None:
    hardware = GPU if option == "engine" else CPU  # which alone records steps unless told otherwise
    plain, asked = recipe_of(hardware), recipe_of(hardware, **{option: OTHER[option]})
    resumed = resumed_recipe(Settings(resume=True, **{option: OTHER[option]}), plain, hardware, 30)  # type: ignore[arg-type]
    field = RECIPE_OPTIONS.get(option, option)
    assert getattr(plain, field) != getattr(asked, field) == getattr(resumed, field) == OTHER[option]


@pytest.mark.parametrize(("before", "now"), [("compile", "deterministic"), ("deterministic", "compile")])
def test_what_is_compiled_is_not_said_to_repeat(before: str, now: str) -> None:
    message = "--compile and --deterministic exclude each other"
    with pytest.raises(UsageError, match=message):
        recipe_of(compile=True, deterministic=True)
    with pytest.raises(UsageError, match=message):
        resumed_recipe(Settings(resume=True, **{now: True}), recipe_of(**{before: True}), CPU, 30)  # type: ignore[arg-type]
    assert describe(recipe_of(**{before: True})).endswith("compiled" if before == "compile" else before)


def test_no_option_of_the_recipe_is_forgotten() -> None:
    fixed = {"evaluations", "weight_decay", "warmup", "decay", "average"}
    fixed |= {
        "model",
        "own_metric",
    }  # with the digests of their sources: test_own_code.py, test_own_metric.py
    fields = {RECIPE_OPTIONS.get(option, option) for option in OTHER}
    assert fields == set(Recipe.model_fields) - fixed
    assert set(RECIPE_OPTIONS) == set(OTHER) - {"steps", "encoder_weights"}
    # An option that has a recipe's name is one of the recipe's.
    assert set(Settings.model_fields) & set(Recipe.model_fields) <= set(RECIPE_OPTIONS) | {
        "steps",
        "encoder_weights",
        "model",
    }


def test_what_was_given_before_stands_until_it_is_given_again() -> None:
    before = given_options(Settings(trials=20, confirm_seeds="3..5", timeout="90m"))
    now = given_options(Settings(resume=True, trials=30))
    asked = asked_of({**before, **now})
    assert (asked.trials, asked.analyses[-1].seeds, asked.timeout, asked.rope) == (30, 5, 5400.0, ROPE)
    assert asked_of({}).trials == TRIALS
    assert asked_of({**before, **now}, held=44).trials == 44  # what is there is not asked for in vain


def test_an_nvidia_gpu_records_its_steps_unless_told_otherwise() -> None:
    assert recipe_of(GPU).engine == "graph" and not recipe_of(GPU).compiled
    assert recipe_of(GPU, engine="eager").engine == recipe_of(CPU).engine == "eager"
