"""`loss.py` of a training: a loss of the registry, or an import of the user's, and the choice of operating point."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import get_args

from sweeper.core.errors import LossError
from sweeper.core.records import IGNORE, Task
from sweeper.core.tasks import RULES
from sweeper.losses.coordinates import check_coordinates, make_kernel_settings
from sweeper.losses.families import FAMILIES
from sweeper.losses.own_losses import OWN, make_call_arguments

LOSSES = Path(__file__).parents[1] / "losses"
MODULES = ("coordinates", "per_pixel", "kernel", "other_losses", "operating_point")
"""Modules of the losses, in the order in which their parts need each other."""
HEAD = '''"""{title}, as a file that needs torch and {more}; sweeper has made it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

'''
CHOICES: dict[Task, str] = {"binary": "choose_threshold", "multiclass": "choose_tau", "multilabel": "choose_thresholds"}
"""Functions that choose the operating point."""
EITHER: tuple[Task, ...] = ("binary", "multiclass", "multilabel")
"""Tasks of a script whose classes are not known."""
WEIGHTS = """
@cache
def weights_on(device, dtype):
    return torch.tensor({weights}, dtype=dtype, device=device)

"""
OWN_LOSS = """
import sys

sys.path.append({folder!r})
from {module} import {function} as make_own_loss

own_loss = make_own_loss(**{arguments!r})
"""
BATCHES: dict[Task | None, dict[str, object]] = {
    "binary": {"channels": "1 or 2", "settled": 1, "wrong": "!="},
    "multiclass": {"channels": "C", "settled": None, "wrong": "=="},
    None: {"channels": "1 or C", "settled": None, "wrong": "<"},
}
"""Channels that the loss accepts, and the comparison by which it refuses others."""
VOLUMES = """
    if logits.ndim == 5:  # volumes: their slices below each other
        logits, target = logits.flatten(-3, -2), target.flatten(-3, -2)"""
CRITERION = '''

def criterion(logits, target):
    """Loss of logits (N, {channels}, H, W) and labels (N, H, W) or (N, 1, H, W); {ignore} = ignored."""{planes}
    logits, target = settle_shapes(logits, target, {settled})
    if logits.shape[:1] + logits.shape[2:] != target.shape or logits.shape[1] {wrong} 1:
        shapes = f"{{tuple(logits.shape)}} and {{tuple(target.shape)}}"
        raise ValueError(f"logits must be (N, {channels}, H, W) and target (N, H, W), got {{shapes}}")
    target = settle_labels(target, max(2, logits.shape[1]), {ignore}){volumes}
    if logits.shape[1] == 1:
        return {binary}
    return {multiclass}
'''
EITHER_PLANES = """
    if logits.shape == target.shape:  # classes that overlap
        return {multilabel}"""
PLANES = '''

def criterion(logits, target):
    """Loss of logits and labels 0 and 1, both (N, C, H, W), {ignore} = ignored; a scalar."""
    if logits.shape != target.shape:
        shapes = f"{{tuple(logits.shape)}} and {{tuple(target.shape)}}"
        raise ValueError(f"logits and target must both be (N, C, H, W), got {{shapes}}")
    target = settle_labels(target, 2, {ignore}){volumes}
    return {multilabel}
'''


def make_loss_text(
    family: str,
    params: Mapping[str, float | None],
    task: Task | None,
    class_frequencies: Sequence[float] | None = None,
    ignore_index: int = IGNORE,
) -> str:
    """Return Python text whose `criterion(logits, target)` equals `build_loss` of the same arguments.

    A loss of the user's is imported, from the folder that it was named in. `choose_…` is that of `sweeper.losses`.
    Without a task it is for two or several classes, if the loss is the same for both.

    Raises:
        LossError: if `build_loss` would refuse, or the loss needs more than logits and labels.
    """
    calls, roots, weights = dict.fromkeys(get_args(Task), "None"), {"settle_shapes", "settle_labels"}, "\n"
    more = "nothing else"
    for one in (task,) if task else EITHER:
        values = check_coordinates(family, one, params, class_frequencies)
        roots.add(CHOICES[one])
        entry = FAMILIES[family]
        if entry.needs_map is not None:
            raise LossError(
                f"a loss for your own training must need logits and labels only, got {family}; leave it out"
            )
        if (own := OWN.get(family)) is not None:
            given = make_call_arguments(own, values, one, ignore_index, len(class_frequencies or (0, 0)))
            code = {"folder": own.code.folder, "module": own.code.module, "function": own.code.function}
            weights, more = OWN_LOSS.format(arguments=given, **code), f"your module {own.code.module}"
            calls[one] = "own_loss(logits if logits.dtype == torch.float64 else logits.float(), target)"
            continue
        if entry.module is not None:
            shares = None if class_frequencies is None else tuple(class_frequencies)
            arguments = "".join(f", {name}={value!r}" for name, value in values.items() if value is not None)
            calls[one] = f"{family}(LossBatch(logits, target, {one!r}, {ignore_index}, {shares!r}){arguments})"
            roots |= {family, "LossBatch"}
            continue
        settings = make_kernel_settings(entry, one, values, class_frequencies)
        name, last = ("softmax_loss", "None") if RULES[one].is_exclusive else ("sigmoid_loss", "(1.0, 1.0)")
        if settings.class_weights is not None:
            weights = WEIGHTS.format(weights=settings.class_weights)
            last = "weights_on(logits.device, torch.promote_types(logits.dtype, torch.float32))"
            last += "" if RULES[one].is_exclusive else ".view(2, -1, 1, 1)"
        calls[one] = f"{name}(logits, target, {settings!r}, {ignore_index}, {last})"
        roots |= {name, "KernelSettings"}
    body = _collect_sources(roots).replace(f"IGNORED = {IGNORE}", f"IGNORED = {ignore_index}")
    criterion = PLANES if task == "multilabel" else CRITERION
    volumes = "" if entry.images_only else VOLUMES
    planes = "" if task else EITHER_PLANES.format(**calls)
    parts = {"volumes": volumes, "planes": planes, **BATCHES.get(task, {}), **calls}
    return HEAD.format(title=entry.title, more=more) + body + weights + criterion.format(ignore=ignore_index, **parts)


@cache
def _parse_module(name: str) -> ast.Module:
    return ast.parse((LOSSES / f"{name}.py").read_text("utf-8"))


def _collect_sources(roots: set[str]) -> str:
    """Collect the source of these definitions and of all that they use, in the order of the modules."""
    definitions: dict[str, ast.stmt] = {}
    for module in MODULES:
        for node in _parse_module(module).body:
            target = node.targets[0] if isinstance(node, ast.Assign) else None
            name = target.id if isinstance(target, ast.Name) else getattr(node, "name", None)
            if name is not None:
                definitions[name] = node
    wanted, left = set[str](), set(roots)
    while left:
        name = left.pop()
        wanted.add(name)
        left |= {
            inner.id for inner in ast.walk(definitions[name]) if isinstance(inner, ast.Name)
        } & definitions.keys() - wanted
    return "\n\n".join(ast.unparse(node) for name, node in definitions.items() if name in wanted)
