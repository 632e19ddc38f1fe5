"""Python text that builds a loss, to paste into training code. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import NamedTuple

from sweeper.core.records import IGNORE, Task
from sweeper.losses.coordinates import Value, check_coordinates, uses_frequencies
from sweeper.losses.families import FAMILIES
from sweeper.losses.own_losses import OWN, make_user_snippet

SHOWN_CLASSES = 20
LOGIT = "    z = z[:, 0] if z.shape[1] == 1 else z[:, 1] - z[:, 0]"
"""Code for the foreground's logit, (N, H, W): a softmax over two channels is the sigmoid of their difference."""


class OptimizerSettings(NamedTuple):
    """Settings of AdamW in the trainings."""

    lr: float
    weight_decay: float
    warmup: float
    """Share of the steps during which the rate rises from 0."""
    decay: float
    """Share of the steps, at the end, during which the rate falls to 0."""


def make_snippet(
    family: str,
    params: Mapping[str, float],
    task: Task,
    classes: Sequence[str],
    class_frequencies: Sequence[float] | None = None,
    *,
    point: float | None = None,
    optimizer: OptimizerSettings | None = None,
    metric: str = "miou",
    ignore_index: int = IGNORE,
) -> str:
    """Return code that runs when pasted.

    It defines `criterion`, `make_optimizer(model)` with the schedule `compute_rate_factor(step, steps)`, and
    `predict(logits)`. Numbers are rounded to 4 significant digits.

    Args:
        family: a name in `FAMILIES`.
        params: coordinates, as for `build_loss`.
        task: binary or multiclass.
        classes: class names in index order, for the comment; they are escaped.
        class_frequencies: as for `build_loss`, in whose call they are omitted if the loss does not use them; `predict`
            uses them if the task is multi-class.
        point: default operating point of `predict`, chosen on validation: a threshold in (0, 1) or τ. None = no
            `predict`.
        optimizer: settings for `make_optimizer` and `compute_rate_factor`. None = neither.
        metric: metric for choosing another network's point; mIoU if this one is not computed from pixels summed over
            images.
        ignore_index: label of pixels that do not count in the user's training.

    Raises:
        LossError: if `build_loss` would refuse.
    """
    user_loss = OWN.get(family)
    values = dict(params) if user_loss is not None else check_coordinates(family, task, params, class_frequencies)
    arguments = [f'"{family}"', f'task="{task}"']
    arguments += [f"{name}={round_significant(value)!r}" for name, value in values.items() if value is not None]
    if class_frequencies is not None and uses_frequencies(FAMILIES[family], task, values):
        total = sum(class_frequencies)
        arguments.append(
            f"class_frequencies=({', '.join(repr(round_significant(f / total)) for f in class_frequencies)})"
        )
    ignored = "" if ignore_index == IGNORE else f"ignore_index={ignore_index}"
    arguments += [ignored] * (ignored != "")
    one_line = f"criterion = build_loss({', '.join(arguments)})"
    call = (
        one_line
        if len(one_line) <= 100
        else "\n".join(["criterion = build_loss(", *(f"    {argument}," for argument in arguments), ")"])
    )
    choice = "choose_threshold" if task == "binary" else "choose_tau" if class_frequencies is not None else ""
    imported = ["build_loss"] * (user_loss is None) + [choice] * (point is not None and choice != "")
    sources = [f"from sweeper.losses import {', '.join(imported)}"] * (imported != [])
    if user_loss is not None:  # may run without sweeper, so its import is a comment
        source, call = make_user_snippet(
            user_loss, {n: float(f"{v:.4g}") for n, v in params.items()}, task, len(classes)
        )
        sources = [source, *(f"# {line}" for line in sources)]
    free = FAMILIES[family].coordinates[task]
    meanings = [f"{name}: {free[name].meaning}" for name in params if free[name].meaning]
    channels = len(classes) if task == "multiclass" else 1 if user_loss is not None else "1 or 2"
    shape = f"(N, {channels}, H, W)"
    # Names come from files: `!a` escapes line breaks; a backquote could end a code block in markdown.
    names = [f"{i} = {name!a}".replace("`", "'") for i, name in enumerate(classes[:SHOWN_CLASSES])]
    more = ", …" if len(classes) > SHOWN_CLASSES else ""
    return "\n".join(
        [
            *(["import torch"] if point is not None or optimizer is not None else []),
            *sources,
            "",
            f"# {FAMILIES[family].title}; numbers rounded to 4 significant digits.",
            *(line for text in meanings for line in wrap(text, 98, initial_indent="# ", subsequent_indent="#   ")),
            call,
            f"# logits: {shape}, before any sigmoid or softmax; target: (N, H, W) integers,",
            f"# {', '.join(names)}{more}, {ignore_index} = ignored",
            "# loss = criterion(logits, target)",
            *_format_optimizer(optimizer),
            *_format_predict(task, point, class_frequencies, metric, ignored=ignored),
            "",
        ]
    )


def _format_optimizer(settings: OptimizerSettings | None) -> list[str]:
    if settings is None:
        return []
    return [
        "",
        "",
        "def make_optimizer(model):",
        '    """Return AdamW at the peak learning rate; `compute_rate_factor` has warm-up and linear decay."""',
        f"    return torch.optim.AdamW(model.parameters(), lr={settings.lr:.3g}, "
        f"weight_decay={settings.weight_decay:.3g})",
        "",
        "",
        "def compute_rate_factor(step, steps):",
        '    """Return the factor of the learning rate after `step` batches, for `LambdaLR`."""',
        f"    rise = (step + 1) / max(1, {settings.warmup:.3g} * steps)",
        f"    return min(1.0, rise, (steps - step) / max(1, {settings.decay:.3g} * steps))",
    ]


def _format_predict(
    task: Task,
    point: float | None,
    class_frequencies: Sequence[float] | None,
    metric: str,
    *,
    ignored: str,
) -> list[str]:
    """Return code of a function from logits to labels at an operating point, and of the choice of that point."""
    if point is None:
        return []
    binary, lines, prior = task == "binary", ["", ""], ""
    chosen = "was chosen on validation images" if point != (0.5 if binary else 0) else "is the plain one"
    if not binary and class_frequencies is None:
        return [
            *lines,
            "def predict(logits):",
            '    """Return the class of each pixel, (N, H, W)."""',
            "    return logits.argmax(1)",
        ]
    if not binary and class_frequencies is not None:
        total, prior = sum(class_frequencies), ", log_prior"
        shares = ", ".join(repr(round_significant(max(1.0, f) / total)) for f in class_frequencies)
        lines = ["", "", f"log_prior = torch.tensor([{shares}]).log()", *lines]
    name, shown = ("threshold", f"{point:.3g}" if point < 0.99 else f"{point:.9g}") if binary else ("tau", f"{point:g}")
    title, by = {"fg_iou": ("foreground IoU", ", 'fg_iou'"), "dice": ("Dice", ", 'dice'")}.get(metric, ("mIoU", ""))
    by += f", {ignored}" * (ignored != "")
    answer = "    return (logits - tau * log_prior.to(logits).view(1, -1, 1, 1)).argmax(1)"
    return [
        *lines,
        f"# Choose it on your network; {shown} was this one's: it {chosen}.",
        f"# By {title}: {name} = choose_{name}(((model(x), y) for x, y in validation_batches){prior}{by})",
        f"def predict(logits, {name}={shown}):",
        f'    """Return {"1 where foreground" if binary else "the class of each pixel"}, (N, H, W)."""',
        *(["    z = logits.float()", LOGIT, "    return (z.sigmoid() >= threshold).long()"] if binary else [answer]),
    ]


def round_significant(value: Value) -> Value:
    """Round a number to 4 significant digits; None stays None."""
    return None if value is None else float(f"{value:.4g}")
