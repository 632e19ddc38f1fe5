"""Python text that builds a loss, to paste into training code. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import NamedTuple

import numpy as np

from sweeper.core.records import IGNORE, OperatingPoint, Task
from sweeper.core.tasks import RULES
from sweeper.losses.coordinates import check_coordinates, uses_frequencies
from sweeper.losses.families import FAMILIES
from sweeper.losses.own_losses import OWN, make_user_snippet

SHOWN_CLASSES = 20
_LOSS = """\
import torch
{source}

# {title}; numbers rounded to 4 significant digits.
{comments}{call}
# logits: (N, {channels}, H, W), before any sigmoid or softmax; target: {target},
# {names}, {ignored} = ignored
# loss = criterion(logits, target)
"""
_OPTIMIZER = '''

def make_optimizer(model):
    """Return AdamW at the peak learning rate; `compute_rate_factor` has warm-up and linear decay."""
    return torch.optim.AdamW(model.parameters(), lr={lr:.3g}, weight_decay={weight_decay:.3g})


def compute_rate_factor(step, steps):
    """Return the factor of the learning rate after `step` batches, for `LambdaLR`."""
    rise = (step + 1) / max(1, {warmup:.3g} * steps)
    return min(1.0, rise, (steps - step) / max(1, {decay:.3g} * steps))
'''
_BINARY = '''

# Choose it on your network; {point} was this one's: it {origin}.
# By {title}: threshold = choose_threshold(((model(x), y) for x, y in validation_batches){options})
def predict(logits, threshold={point}):
    """Return 1 where foreground, (N, H, W)."""
    z = logits.float()
    z = z[:, 0] if z.shape[1] == 1 else z[:, 1] - z[:, 0]
    return (z.sigmoid() >= threshold).long()
'''
_MULTICLASS = '''

log_prior = torch.tensor([{shares}]).log()


# Choose it on your network; {point} was this one's: it {origin}.
# By {title}: tau = choose_tau(((model(x), y) for x, y in validation_batches), log_prior{options})
def predict(logits, tau={point}):
    """Return the class of each pixel, (N, H, W)."""
    return (logits - tau * log_prior.to(logits).view(1, -1, 1, 1)).argmax(1)
'''

_MULTILABEL = '''

# A threshold for each class. Choose them on your network; what is set here {origin}.
# By {title}: thresholds = choose_thresholds(((model(x), y) for x, y in validation_batches){options})
def predict(logits, thresholds={point}):
    """Return 1 where a pixel has the class, (N, {classes}, H, W)."""
    return (logits.float().sigmoid() >= torch.tensor(thresholds).to(logits).view(-1, 1, 1)).long()
'''


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
    point: OperatingPoint | None = None,
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
        task: task of the loss.
        classes: class names in index order, for the comment; they are escaped.
        class_frequencies: as for `build_loss`, in whose call they are omitted if the loss does not use them; `predict`
            uses them if the task is multi-class, and without them all classes are alike.
        point: default operating point of `predict`, chosen on validation. None = the plain one.
        optimizer: settings for `make_optimizer` and `compute_rate_factor`. None = neither.
        metric: metric for choosing another network's point; mIoU if this one is not computed from pixels summed over
            images.
        ignore_index: label of pixels that do not count in the user's training.

    Raises:
        LossError: if `build_loss` would refuse.
    """
    choice, predict, channels, target = {
        "binary": ("choose_threshold", _BINARY, "1 or 2", "(N, H, W) integers"),
        "multiclass": ("choose_tau", _MULTICLASS, f"{len(classes)}", "(N, H, W) integers"),
        "multilabel": ("choose_thresholds", _MULTILABEL, f"{len(classes)}", "the same shape, 0 and 1 of each class"),
    }[task]
    plain = RULES[task].plain_point
    ignored = "" if ignore_index == IGNORE else f", ignore_index={ignore_index}"
    if (user_loss := OWN.get(family)) is not None:  # may run without sweeper, so its import is a comment
        rounded = {name: float(f"{value:.4g}") for name, value in params.items()}
        source, call = make_user_snippet(user_loss, rounded, task, len(classes))
        source += f"\n# from sweeper.losses import {choice}"
        channels = channels.removesuffix(" or 2")  # it gets the logits as they are
    else:
        source = f"from sweeper.losses import build_loss, {choice}"
        call = _format_call(family, params, task, class_frequencies, ignored)
    free = FAMILIES[family].coordinates[task]
    meanings = [f"{name}: {free[name].meaning}" for name in params if free[name].meaning]
    comments = [fill(text, 98, initial_indent="# ", subsequent_indent="#   ") + "\n" for text in meanings]
    # Names come from files: `!a` escapes line breaks; a backquote could end a code block in markdown.
    names = [f"{i} = {name!a}".replace("`", "'") for i, name in enumerate(classes)]
    loss = _LOSS.format(
        source=source,
        title=FAMILIES[family].title,
        comments="".join(comments),
        call=call,
        channels=channels,
        target=target,
        names=", ".join([*names[:SHOWN_CLASSES], *["…"] * (len(classes) > SHOWN_CLASSES)]),
        ignored=ignore_index,
    )
    priors = class_frequencies or [1.0] * len(classes)
    title, name = {"fg_iou": ("foreground IoU", ", 'fg_iou'"), "dice": ("Dice", ", 'dice'")}.get(metric, ("mIoU", ""))
    planes = RULES[task].list_planes(len(classes))
    chosen = plain if point is None else point
    values = np.broadcast_to(chosen, planes or 1).tolist()
    numbers = ", ".join(f"{value:.3g}" if value < 0.99 else f"{value:.9g}" for value in values)
    answer = predict.format(
        shares=", ".join(repr(round_significant(max(1.0, f) / sum(priors))) for f in priors),
        point=f"({numbers},)" if planes else numbers,
        origin="is the plain one" if set(values) == {plain} else "was chosen on validation images",
        classes=len(classes),
        title=title,
        options=name + ignored,
    )
    return loss + ("" if optimizer is None else _OPTIMIZER.format(**optimizer._asdict())) + answer


def _format_call(
    family: str, params: Mapping[str, float], task: Task, class_frequencies: Sequence[float] | None, ignored: str
) -> str:
    """Return the construction of the loss, on lines of at most 100 columns."""
    values = check_coordinates(family, task, params, class_frequencies)
    arguments = [f'"{family}"', f'task="{task}"']
    arguments += [f"{name}={round_significant(value)!r}" for name, value in values.items() if value is not None]
    if class_frequencies is not None and uses_frequencies(FAMILIES[family], task, values):
        whole = 1.0 if RULES[task].has_planes else sum(class_frequencies)
        shares = ", ".join(repr(round_significant(f / whole)) for f in class_frequencies)
        arguments.append(f"class_frequencies=({shares}{',' * (len(class_frequencies) == 1)})")
    call = f"criterion = build_loss({', '.join(arguments)}{ignored})"
    return fill(call, 100, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def round_significant(value: float) -> float:
    """Round a number to 4 significant digits."""
    return float(f"{value:.4g}")
