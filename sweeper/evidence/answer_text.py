"""The answer as text, from its document alone: headline, rows, losses, what to mind, what to do next.

The report, the terminal, the note in MLflow and the output of `confirm` and `judge` are made of these parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sweeper.core.recipe import FULL_DEPTH, PUBLISHED_WIDTH, Recipe
from sweeper.core.records import Gain
from sweeper.core.tasks import RULES, format_point
from sweeper.core.text import fill_words, format_count, format_count_range, format_share, format_significant, shorten
from sweeper.evidence.document import AnswerDocument, LossRow
from sweeper.evidence.phrases import STEPS, format_head, format_phrase, format_remark, list_remarks

MOST_CLASSES, MOST_REMARKS, MOST_STEPS = 8, 4, 6
"""Classes, remarks and next steps that a terminal shows; the report has all."""
LONGEST = 26
"""Characters of a cell on a terminal; a longer name is shortened."""
_ARCHITECTURES = {"unet": "U-Net", "unetplusplus": "U-Net++", "fpn": "FPN", "deeplabv3plus": "DeepLabV3+"}
_ENCODERS = {"resnet": "ResNet-", "tu-tf_efficientnet_lite": "EfficientNet-Lite"}


def list_rows(document: AnswerDocument) -> list[tuple[str, str]]:
    """Return the rows of the answer, label and text, with losses and parameters in back quotes."""
    rows = [*_list_use(document), *_list_numbers(document)]
    return [*rows, ("Holds for", describe_scope(document))] if document.recipe is not None else rows


def _list_use(document: AnswerDocument) -> Iterator[tuple[str, str]]:
    use, recipe = document.use, document.recipe
    if use is None or document.kind != "loss":
        return
    parts = [f"`{use.loss}`", *(f"`{name}` {format_significant(value)}" for name, value in use.params.items())]
    if use.lr is not None:
        is_factor = recipe is None or recipe.command is not None  # without one it is a comparison in a script
        rate = format_significant(use.lr)
        parts.append(f"{rate} × your learning rate" if is_factor else f"learning rate {rate}")
    if use.point is not None and document.dataset is not None:
        name = RULES[document.dataset.task].point_words
        parts.append(f"{name} {format_point(use.point, '.2f')}".replace("-", "−"))
    yield "Use", " · ".join(parts)


def _list_numbers(document: AnswerDocument) -> Iterator[tuple[str, str]]:
    """Yield the gain, and the difference in the final training."""
    if document.gain is not None:
        yield "Gain", format_phrase("GAIN", document)
    final, recipe = document.final, document.recipe
    if final is not None and recipe is not None:  # what was judged has neither
        values = {"first": final.first, "second": final.second, "seeds": final.seeds, "before": final.before.estimate}
        training = describe_final_training(recipe, final.steps)
        yield "Final training", format_phrase("GAP", document, **values, **final.after.ends, training=training)


def describe_scope(document: AnswerDocument) -> str:
    """Describe the recipe, the budget, and the number of images and seeds."""
    recipe = document.recipe
    assert recipe is not None  # scores that were judged have none
    steps = recipe.confirm_steps
    if document.in_final and document.final_steps is not None:
        recipe, steps = recipe.as_final, document.final_steps
    text = f"{describe_network(recipe)}, {recipe.format_steps(steps)}"
    if not document.losses:
        return text
    is_synthetic = document.dataset is not None and document.dataset.synthetic
    kind = "synthetic " if is_synthetic else ""
    images = format_count(document.images, f"{kind}test image")
    if document.folds is not None:
        images = f"{format_count(document.images, f'{kind}image')} in {document.folds} folds"
    return f"{text}; {images}, {format_count_range([row.seeds for row in document.losses], 'seed')}"


def describe_final_training(recipe: Recipe, steps: int) -> str:
    """Describe what distinguishes the final training: `U-Net/EfficientNet-Lite0 on 96² crops, 500 steps`."""
    length = recipe.format_steps(steps)
    return length if recipe.final is None else f"{describe_network(recipe.as_final)}, {length}"


def describe_network(recipe: Recipe) -> str:
    """Describe network and input: `U-Net/ResNet-18 cut to depth 3 of 5 without pretrained weights on 64² crops`."""
    if recipe.command is not None:
        return f"your training script, {recipe.command}"
    crops = f"{recipe.size}² crops"
    if recipe.model is not None:
        return f"the network {recipe.model.name} on {crops}"
    weights = {"none": "without pretrained weights", "imagenet": "with ImageNet weights"}
    return f"{format_network(recipe)} {weights.get(recipe.encoder_weights, 'with weights from a file')} on {crops}"


def format_network(recipe: Recipe) -> str:
    """Format a network: `U-Net/ResNet-18` for `unet` and `resnet18`, unknown names unchanged, changes to it added."""
    depth = recipe.encoder_depth
    cut = f" cut to depth {depth} of {FULL_DEPTH}" if depth < FULL_DEPTH else ""
    if recipe.decoder_channels is not None and recipe.decoder_width != PUBLISHED_WIDTH:
        cut += f" with decoder {'-'.join(map(str, recipe.decoder_channels))}"
    begin = next((begin for begin in _ENCODERS if recipe.encoder.startswith(begin)), "")
    encoder = _ENCODERS.get(begin, "") + recipe.encoder.removeprefix(begin)
    return f"{_ARCHITECTURES.get(recipe.arch, recipe.arch)}/{encoder}{cut}"


# --- On a terminal ------------------------------------------------------------------------------------------


def format_answer(document: AnswerDocument, width: int, *, places: Sequence[str] = ()) -> str:
    """Format the answer for a terminal: headline, rows, losses, remarks, next steps, before which are `places`."""
    lines = [fill_words(format_head(document), width)]
    lines += [fill_words(f"{label}: {text}", width, rest="  ") for label, text in list_rows(document)]
    lines += ["", *_format_losses(document), *_format_classes(document), ""] if document.losses else []
    lines += [fill_words(text, width, first="- ", rest="  ") for text in list_remarks(document, "text")[:MOST_REMARKS]]
    lines += places
    for step in document.next[:MOST_STEPS]:
        question = format_remark(step, document, STEPS).removesuffix(".")
        lines += [fill_words(f"{question}:" if step.command else question, width)]
        lines += [f"  {step.command}"] if step.command else []
    return "\n".join(line.replace("`", "") for line in lines)


def _format_losses(document: AnswerDocument) -> list[str]:
    """Return a line for each loss: name, score with its interval, number of seeds."""
    longest = max(len(row.loss) for row in document.losses)
    head = f"  {document.scale.score}, {100 * document.level:g} % interval"
    way = "" if document.higher_is_better else ", lower is better"
    noun = "seed" if document.kind == "loss" else "run"
    return [
        f"{head}{way}",
        *(
            f"{'→' if row.loss == document.used else ' '} {row.loss:{longest}}  {format_score(row, document)}  "
            f"({format_count(row.seeds, noun)})"
            for row in document.losses
        ),
    ]


def format_score(row: LossRow, document: AnswerDocument) -> str:
    """Format a loss's score with its interval: `0.710 [0.690, 0.730]`; without brackets where it has none."""
    score = row.score or Gain(estimate=row.mean, low=row.mean, high=row.mean)
    return format_phrase("SCORE" if row.score else "MEAN", document, **score.model_dump())


# --- The classes ----------------------------------------------------------------------------------------------


def list_class_cells(document: AnswerDocument) -> list[list[str]]:
    """Return the table of the classes, the rarest first, below its headings; [] where none was scored.

    Its columns are the class, its share of the pixels, the test IoU with each loss, and the gain.
    """
    if document.classes is None:
        return []
    losses = document.classes.losses
    head = ["class", "of the pixels", *(f"IoU `{loss}`" for loss in losses), *["gain [95 %]"] * (len(losses) > 1)]
    cells = [head]
    for row in document.classes.rows:
        scores = [format_phrase("MEAN", document, estimate=score.estimate) for score in row.scores]
        gains = [] if row.gain is None else [format_phrase("LEAD", document, **row.gain.model_dump())]
        measured = [row.name, format_share(row.share), *scores, *gains]
        cells.append([*measured, *["–"] * (len(head) - len(measured))])
    return cells


def _format_classes(document: AnswerDocument) -> list[str]:
    """Return a line for each of the rarest classes."""
    cells = [[shorten(cell, LONGEST).replace("`", "") for cell in row] for row in list_class_cells(document)]
    shown = cells[: MOST_CLASSES + 1]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    more = [f"  and {format_count(len(cells) - len(shown), 'more common class')}"] * (len(cells) > len(shown))
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in shown]
    return [""] * bool(cells) + [*(f"  {line}".rstrip() for line in lines), *more]
