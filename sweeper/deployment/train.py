"""`sweeper train STUDY`: train the recommended configuration in this process."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from sweeper.core.document import Document
from sweeper.core.errors import CheckpointError, InterruptedSweepError, SweeperError, UsageError, get_cause
from sweeper.core.recipe import Recipe
from sweeper.core.records import Collapse, Conditions, MetricScores, OperatingPoint, Split, Task, TrainedOn, TrialSpec
from sweeper.core.tasks import RULES, format_point
from sweeper.core.text import format_count, format_study_command
from sweeper.core.training_files import (
    get_checkpoint_path,
    get_checkpoints_dir,
    get_final_weights_path,
    get_weights_dir,
)
from sweeper.deployment.final_spec import make_conditions, make_train_spec
from sweeper.deployment.recommended_network import RecommendedAnswer, load_answer
from sweeper.system.clocks import get_running_seconds
from sweeper.system.machine import count_available_cores, read_requested_threads
from sweeper.system.whole_files import load_record, remove_left, save_record
from sweeper.training.weights_file import read_record
from sweeper.workflow.prepare import MessageSink
from sweeper.workflow.run_context import StopSignal
from sweeper.workflow.settings import TrainOptions

if TYPE_CHECKING:
    from sweeper.storage.resilient_storage import RetryingStorage
    from sweeper.training.network_in_training import FinalScores, FinalTraining

SAVE_SECONDS = 300.0
"""Seconds between two checkpoints, the most that a crash can lose."""
AT_ONCE = 1.0
"""Seconds of training between two reports of progress and checks of `stop`."""


class TrainingDocument(Document):
    """Document that `sweeper train` prints."""

    SCHEMA: ClassVar[str] = "sweeper.training/1"

    study: str
    family: str
    params: dict[str, float]
    lr: float
    task: Task
    on: TrainedOn
    images: int
    """Number of training images."""
    steps: int
    seed: int
    seconds: float
    """Seconds of this session."""
    device: str
    weights: str
    """File of the network."""
    point: OperatingPoint
    """Operating point: a threshold (two classes), τ, or a threshold for each class (multi-label)."""
    point_from: str
    """Origin of the operating point, in words."""
    val: MetricScores | None
    """Scores on the validation images, if held out."""
    test: MetricScores | None
    """Scores on the test images, if held out; they were used before, so this is no new confirmation."""
    test_images: int
    collapse: Collapse
    """Collapse on the held-out images; `none` if there are none."""
    registered: str | None = None
    """Address of the network in MLflow's registry, `models:/NAME/VERSION`; null without `--register`."""


def train_recommended(
    storage: RetryingStorage,
    name: str,
    options: TrainOptions,
    *,
    messages: MessageSink,
    stop: StopSignal,
    progress: Callable[[int, int], None],
) -> TrainingDocument:
    """Train the configuration that a study recommends, and store its weights next to the study's.

    An interrupted training continues bit for bit if the same command is repeated, and a network that is only not
    registered yet is registered. `stop` is checked between steps, and `progress` called with (done, total) steps.

    Raises:
        UsageError: (including DataError, StudyError) before any training.
        SweeperError: if nothing is recommended, the training diverged, or its weights cannot be written.
        InterruptedSweepError: if `stop` requests it; the message contains the checkpoint's path.
    """
    answer = load_answer(storage, name, "train")
    if (command := answer.sweep.conditions.recipe.command) is not None:
        raise UsageError(
            f"study {name!r} was trained by your script, which makes the network: put the loss of "
            f"`{format_study_command('export', name, answer.sweep.storage)}` into it in place of t.loss, and run "
            f"{command}"
        )
    if options.register_as is not None:
        from sweeper.tracking.mirror import check_registration

        check_registration(options.tracking_uri, name, options.register_as)
    conditions, images, split = make_conditions(answer, options, messages)
    spec = make_train_spec(answer, conditions, options)
    folder = get_weights_dir(options.cache, name)
    for place in (folder, get_checkpoints_dir(options.cache, name)):
        remove_left(place)
    target = get_final_weights_path(folder, spec, options.on, conditions.dataset.digest)
    if target.exists() and not options.overwrite:
        return _register_network(_read_trained(target, options), options)
    from sweeper.training.hardware import probe_device, settle_numerics, settle_process

    hardware = probe_device(options.device)
    # A failing recording of steps would end this process.
    is_bfloat16 = hardware.device == "cpu" and hardware.precision == "bfloat16"
    usual = conditions.recipe.precision if is_bfloat16 else hardware.precision
    precision = options.precision or usual
    recipe, is_deterministic = conditions.recipe, conditions.recipe.engine == "deterministic"
    recipe = recipe.model_copy(update={"precision": precision, "engine": "eager"})
    conditions = conditions.model_copy(update={"recipe": recipe})
    settle_process(read_requested_threads() or count_available_cores())
    settle_numerics(is_deterministic)
    try:
        checkpoint = get_checkpoint_path(get_checkpoints_dir(options.cache, name), spec)
        began = get_running_seconds()
        training = _begin_training(spec, conditions, hardware.device, images, checkpoint=checkpoint, messages=messages)
        passes = spec.steps * recipe.batch_size / len(images)
        messages.log(
            f"{spec.family} (learning rate {spec.lr:.3g}) on {format_count(len(images), 'image')} ({options.on}), "
            f"{spec.steps:,} steps of {recipe.batch_size} crops (each image is drawn about {passes:.0f} times; the "
            f"confirmation had {recipe.confirm_steps:,} steps), seed {spec.seed}, {training.device_name}"
        )
        stop.defer_signals()
        _run_steps(training, spec, checkpoint, stop=stop, progress=progress)
        source, val, test = _score_training(training, answer, conditions, options.on, split)
        left_out = val if test is None else test
        point = answer.point if left_out is None else left_out.point
        collapse = Collapse.NONE if left_out is None else left_out.collapse
        on_val, on_test = (None if one is None else one.scores for one in (val, test))
        made = TrainingDocument(
            study=name,
            family=spec.family,
            params=spec.params,
            lr=spec.lr,
            task=conditions.dataset.task,
            on=options.on,
            images=len(images),
            steps=spec.steps,
            seed=spec.seed,
            seconds=get_running_seconds() - began,
            device=training.device_name,
            weights=str(target),
            point=point,
            point_from=source,
            val=on_val,
            test=on_test,
            test_images=0 if test is None else len(split.test),
            collapse=collapse,
        )
        save_record(target.with_suffix(".json"), made)
        training.save_network(target, point, options.on, collapse)
        checkpoint.unlink(missing_ok=True)
    except (MemoryError, RuntimeError) as error:
        from sweeper.training.failure_causes import is_out_of_memory

        if is_deterministic and "deterministic" in str(error):
            raise SweeperError(
                f"the study was made with --engine deterministic, and torch says: {get_cause(error)}. "
                "Use another network or loss, in a new study"
            ) from error
        if not is_out_of_memory(error):
            raise
        raise _explain_out_of_memory(error, recipe, hardware.device) from error
    except OSError as error:
        raise SweeperError(
            f"the training's files could not be written below {options.cache.parent}: {error}"
        ) from error
    return _register_network(made, options)


def _read_trained(target: Path, options: TrainOptions) -> TrainingDocument:
    """Return what was trained before, which only has to be registered.

    Raises:
        UsageError: if it has not, or its record is damaged.
    """
    with suppress(OSError, ValueError):
        made = load_record(target.with_suffix(".json"), TrainingDocument)
        if options.register_as is not None:
            return made.model_copy(update={"weights": str(target), "seconds": 0.0})
    raise UsageError(
        f"{target} exists already: the same was trained before; "
        "--overwrite trains it again, --steps, --seed or --on another one"
    )


def _register_network(made: TrainingDocument, options: TrainOptions) -> TrainingDocument:
    """Register a network, if that is requested."""
    if options.register_as is None:
        return made
    from sweeper.tracking import register_network
    from sweeper.tracking.values import TAG_LIMIT, format_parameter
    from sweeper.training.network_formats import MaskNetwork

    record = read_record(Path(made.weights))
    network = MaskNetwork(Path(made.weights), record)
    score = {} if made.test is None else {"sweeper.test_miou": f"{made.test.miou:.4f}"}
    tags = {
        "sweeper.study": made.study,
        "sweeper.family": made.family,
        **{f"loss.{name}": format_parameter(value) for name, value in made.params.items()},
        "sweeper.classes": ", ".join(record.classes)[:TAG_LIMIT],
        f"sweeper.{RULES[made.task].point_key}": format_point(made.point),
        **score,
        "sweeper.trained_on": made.on,
        "sweeper.data": record.digest,
    }
    address = register_network(
        options.tracking_uri,
        made.study,
        options.register_as,
        network,
        network.example,
        description=f"Trained for {made.steps:,} steps with {made.family}, which study {made.study} recommends.",
        tags=tags,
    )
    return made.model_copy(update={"registered": address})


def _begin_training(
    spec: TrialSpec,
    conditions: Conditions,
    device: str,
    images: tuple[int, ...],
    *,
    checkpoint: Path,
    messages: MessageSink,
) -> FinalTraining:
    """Create the training, from its checkpoint if it has one."""
    from sweeper.training.network_in_training import FinalTraining
    from sweeper.training.training_context import open_context

    context = open_context(conditions, device)
    if checkpoint.exists():
        try:
            training = FinalTraining(spec, context, images, checkpoint=checkpoint)
        except CheckpointError as error:
            messages.warn(f"{get_cause(error)}; the training begins again")
        else:
            messages.log(f"continuing at step {training.step:,} of {spec.steps:,}, from {checkpoint}")
            return training
    return FinalTraining(spec, context, images)


def _run_steps(
    training: FinalTraining,
    spec: TrialSpec,
    checkpoint: Path,
    *,
    stop: StopSignal,
    progress: Callable[[int, int], None],
) -> None:
    """Take all steps, with a checkpoint every `SAVE_SECONDS`, and one at a stop."""
    saved = before = get_running_seconds()
    steps = 1
    progress(training.step, spec.steps)
    while training.step < spec.steps:
        loss = training.advance(steps)
        now = get_running_seconds()
        steps = max(1, round(steps * min(4.0, AT_ONCE / max(1e-3, now - before))))
        before = now
        progress(training.step, spec.steps)
        if not math.isfinite(loss):
            raise _explain_divergence(spec, training.step)
        if stop.status is not None and training.step < spec.steps:
            training.save(checkpoint)
            raise InterruptedSweepError(
                f"stopped at step {training.step:,} of {spec.steps:,}; the checkpoint is {checkpoint}, and the same "
                "command continues from there",
                stop.status,
            )
        if now - saved > SAVE_SECONDS:
            training.save(checkpoint)
            saved = now


def _score_training(
    training: FinalTraining, answer: RecommendedAnswer, conditions: Conditions, on: TrainedOn, split: Split
) -> tuple[str, FinalScores | None, FinalScores | None]:
    """Return the operating point's origin, and the scores on held-out validation and test images.

    Raises:
        SweeperError: if a logit is not finite.
    """

    def score_images(images: Sequence[int], point: OperatingPoint | None) -> FinalScores:
        scores = training.score_images(tuple(images), point)
        if scores is None:
            raise _explain_divergence(None, training.step)
        return scores

    val = test = None
    point, source = answer.point, "recommended by the study (no validation image was left to choose it on)"
    if on == "train":
        val = score_images(split.val, None)
        point, source = val.point, f"chosen on {format_count(len(split.val), 'validation image')}"
    if on != "all" and split.test:
        test = score_images(split.test, point)
        if val is None and test.point != point:
            source = f"of the points that are counted the nearest to {format_point(point)}, {source}"
    if val is test is None and not training.is_finite:
        raise _explain_divergence(None, training.step)
    return source, val, test


def _explain_out_of_memory(error: Exception, recipe: Recipe, device: str) -> SweeperError:
    reason = get_cause(error)
    other = "" if device == "cpu" else ", or train on the processor (--device cpu)"
    return SweeperError(
        f"memory ran out, of the machine or the GPU, in batches of {recipe.batch_size} crops of {recipe.size}², which "
        f"are the study's: {reason}. End other programs that use it{other}; the same command continues from "
        "the last checkpoint"
    )


def _explain_divergence(spec: TrialSpec | None, step: int) -> SweeperError:
    what = "the training" if spec is None else f"the training of {spec.family} at learning rate {spec.lr:.3g}"
    return SweeperError(
        f"{what} diverged (NaN or infinity) by step {step:,}; no weights were written. Try --seed, or fewer --steps"
    )
