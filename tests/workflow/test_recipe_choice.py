"""The recipe that follows from the options, the device and the data; no option of it is forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from sweeper.core.errors import UsageError
from sweeper.core.events import WorkerHardware
from sweeper.core.recipe import FinalNetwork, Precision, Recipe
from sweeper.workflow.encoder_weights import NOTHING, EncoderWeights
from sweeper.workflow.recipe_choice import RECIPE_OPTIONS, describe_recipe, make_recipe, resolve_resumed_recipe
from sweeper.workflow.settings import Settings
from tests.support import builders

CPU = WorkerHardware(device="cpu", devices=1, name="CPU", precision="float32")

GPU = WorkerHardware(device="cuda", devices=1, name="GPU", precision="bfloat16")

DATA = builders.dataset(side=400)


def choose_recipe(hardware: WorkerHardware = CPU, **options: Any) -> Recipe:
    chosen = Settings(**options)
    weights = NOTHING._replace(name=options.get("encoder_weights", "none"))
    return make_recipe(chosen, DATA, hardware, weights=lambda _: weights)


def test_a_cpu_gets_a_small_pretrained_encoder_if_its_weights_are_available() -> None:
    def choose_network(
        hardware: WorkerHardware = CPU, has_weights: bool = True, **options: Any
    ) -> tuple[str, int, str]:
        start = NOTHING._replace(name="imagenet") if has_weights else NOTHING
        recipe = make_recipe(Settings(**options), DATA, hardware, weights=lambda _: start)
        return recipe.encoder, recipe.encoder_depth, recipe.encoder_weights

    assert choose_network() == choose_network(encoder_weights="auto") == ("tu-tf_efficientnet_lite0", 4, "imagenet")
    assert choose_network(size=72) == ("tu-tf_efficientnet_lite0", 3, "imagenet")
    for options in ({}, {"encoder_weights": "none"}):
        assert choose_network(has_weights=False, **options) == ("resnet18", 3, "none")
    assert choose_network(encoder="resnet18") == ("resnet18", 3, "imagenet")
    assert choose_network(GPU) == ("resnet34", 5, "imagenet")
    assert choose_network(GPU, has_weights=False) == ("resnet34", 5, "none")
    assert choose_recipe(encoder_weights="weights.safetensors").encoder == "resnet18"


def test_options_that_exclude_each_other_are_refused_before_weights_are_downloaded() -> None:
    def weights(_: str) -> Any:
        pytest.fail("downloaded")

    data = builders.dataset(classes=("a", "b", "c"))
    with pytest.raises(UsageError, match="--metric fg_iou needs a binary task"):
        make_recipe(Settings(metric="fg_iou"), data, CPU, weights=weights)


def test_a_crop_must_fit_the_stride_of_the_network() -> None:
    assert choose_recipe(size=72).size == 72
    with pytest.raises(UsageError, match="--size must be a multiple of 32, the network's stride, got 72; give 96"):
        choose_recipe(GPU, size=72)


@pytest.mark.parametrize("metric", ["lesion_f1", "cc_dice", "boundary_iou"])
def test_a_metric_of_objects_is_refused_where_only_the_first_class_is_labelled(metric: str) -> None:
    assert choose_recipe(metric=metric).metric == metric
    bare = [image.model_copy(update={"pixels": (sum(image.pixels), 0)}) for image in DATA.images]
    data = DATA.model_copy(update={"images": tuple(bare)})
    context = {"weights": lambda _: NOTHING}
    words = f"--metric {metric} needs objects, .*found none in {DATA.name}; check the masks"
    with pytest.raises(UsageError, match=words):
        make_recipe(Settings(metric=metric), data, CPU, **context)
    assert make_recipe(Settings(metric="image_dice"), data, CPU, **context).metric == "image_dice"


def test_the_decoder_is_narrow_on_a_cpu_and_as_published_on_a_gpu() -> None:
    assert choose_recipe().decoder_channels == (32, 16, 8)
    assert choose_recipe(GPU).decoder_channels == (256, 128, 64, 32, 16)
    assert choose_recipe(arch="linknet").decoder_channels is None
    assert Recipe().decoder_width == 16  # of studies that were made before there was a choice


OTHER = {
    "arch": "linknet", "encoder": "resnet50",
    "augment": "full", "size": 32, "batch_size": 4,
    "confirm_steps": 77, "metric": "fg_iou", "steps": 44,
    "encoder_weights": "imagenet", "engine": "deterministic", "precision": "bfloat16",
}  # fmt: skip
"""A value of each option of the recipe that differs from every default."""


@pytest.mark.parametrize("option", OTHER)
def test_each_option_of_the_recipe_takes_effect_in_a_new_study_and_in_a_resume(option: str) -> None:
    plain, chosen = choose_recipe(), choose_recipe(**{option: OTHER[option]})
    resumed = resolve_resumed_recipe(Settings(resume=True, **{option: OTHER[option]}), plain, CPU)
    field = RECIPE_OPTIONS.get(option, option)
    assert getattr(plain, field) != getattr(chosen, field) == getattr(resumed, field) == OTHER[option]


def test_each_option_of_the_recipe_is_in_the_table_of_these_tests() -> None:
    fixed = {"evaluations", "weight_decay", "warmup", "decay", "average", "encoder_depth", "decoder_width"}
    fixed |= {
        "command",  # test_own_script.py
        "model",
        "own_metric",
        "input_mean",
        "input_std",  # follow from the weights: test_encoder_weights.py
        "final",  # below
    }  # with the digests of their sources: test_own_model.py, test_own_metric.py
    fields = {RECIPE_OPTIONS.get(option, option) for option in OTHER}
    assert fields == set(Recipe.model_fields) - fixed
    assert set(RECIPE_OPTIONS) == set(OTHER) - {"encoder_weights"}
    # An option that has a recipe's name is one of the recipe's.
    assert set(Settings.model_fields) & set(Recipe.model_fields) <= set(RECIPE_OPTIONS) | {
        "command",
        "encoder_weights",
        "model",
        "final",
    }


def test_a_study_keeps_its_precision_on_another_processor() -> None:
    def resume(stored: Precision, hardware: WorkerHardware = CPU, **options: Any) -> Precision:
        return resolve_resumed_recipe(Settings(**options), Recipe(precision=stored), hardware).precision

    assert (resume("float32"), resume("bfloat16")) == ("float32", "bfloat16")
    assert resume("bfloat16", precision="float32") == "float32"
    assert resume("float32", GPU) == "bfloat16" and resume("bfloat16", GPU, precision="float32") == "float32"


def test_an_nvidia_gpu_records_its_steps_by_default() -> None:
    assert choose_recipe(GPU).engine == "graph"
    assert choose_recipe(GPU, engine="eager").engine == choose_recipe(CPU).engine == "eager"


# --- The network of the final training ---

IMAGENET = NOTHING._replace(name="imagenet")


def choose_final(
    hardware: WorkerHardware = CPU, weights: EncoderWeights = IMAGENET, **options: Any
) -> FinalNetwork | None:
    return make_recipe(Settings(**options), DATA, hardware, weights=lambda _: weights).final


def test_on_a_cpu_with_weights_the_final_network_is_the_published_one() -> None:
    recipe = make_recipe(Settings(), DATA, CPU, weights=lambda _: IMAGENET)
    whole = recipe.as_final
    assert recipe.final is not None and whole.final is None
    assert (whole.encoder, whole.encoder_depth, whole.decoder_width, whole.size) == (recipe.encoder, 5, 16, 96)
    assert (recipe.encoder_depth, recipe.size, whole.encoder_weights) == (4, 64, "imagenet")
    assert whole.model_copy(update={name: getattr(recipe, name) for name in FinalNetwork.model_fields}) == (
        recipe.model_copy(update={"final": None})
    ), "nothing else differs"
    assert (recipe.final_steps, recipe.final_cost) == (500, 4.5)
    assert recipe.model_copy(update={"confirm_steps": 3200}).final_steps == 1422
    assert "final training: U-Net/EfficientNet-Lite0 with ImageNet weights on 96² crops, 500 steps" in (
        describe_recipe(recipe)
    )
    for options, size in (({"size": 80}, 96), ({"size": 112}, 128), ({"final": "size=160"}, 160)):
        final = choose_final(**options)
        assert final is not None and final.size == size


def test_elsewhere_the_final_network_is_the_search_s_unless_another_is_asked_for() -> None:
    assert choose_final(weights=NOTHING) is choose_final(GPU) is None
    same = make_recipe(Settings(), DATA, CPU, weights=lambda _: NOTHING)
    assert same.as_final == same and (same.final_steps, same.final_cost) == (4 * same.confirm_steps, 1)
    other = choose_final(GPU, final="encoder=resnet50,size=512")
    assert other is not None and (other.encoder, other.size) == ("resnet50", 512)
    with pytest.raises(UsageError, match=r"--final size=N must be a multiple of 32, .* got 100; give size=128"):
        choose_final(final="size=100")


@pytest.mark.parametrize("text", ["4", "steps", "steps=0", "width=9", "steps=9;size=64", ""])
def test_what_is_no_final_training_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be none, auto, or any of steps=N,size=N,encoder=NAME.*'steps=1000'"):
        Settings(final=text)


def test_a_resume_keeps_the_final_network_and_may_name_it_again() -> None:
    stored = make_recipe(Settings(final="none"), DATA, CPU, weights=lambda _: IMAGENET)
    assert stored.final is not None, "a resume may ask for it"
    for final in (None, "auto", "none", "steps=900", "size=96"):
        assert resolve_resumed_recipe(Settings(resume=True, final=final), stored, CPU).final == stored.final
    changed = resolve_resumed_recipe(Settings(resume=True, final="size=128"), stored, CPU).final
    assert changed is not None and changed.size == 128  # which the comparison of the plans refuses
