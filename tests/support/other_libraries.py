"""Write a point of the kernel with the losses of common libraries, where they agree with ours.

tests/losses/test_build_other_libraries.py compares each pairing; test_build_library_traps.py says why some have none.
Agreement is of value and gradient on batches in which every class occurs and no pixel is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sweeper.core.records import IGNORE, Task
from sweeper.losses.coordinates import (
    KernelSettings,
    Value,
    check_coordinates,
    make_kernel_settings,
    needs_frequencies,
)
from sweeper.losses.families import FAMILIES
from sweeper.losses.snippet import round_significant

SMP = "import segmentation_models_pytorch as smp  # 0.5 or later"
MONAI = "import monai  # 1.5 or later"
TORCH = "import torch"
FLOAT_TARGET = "target.unsqueeze(1).to(logits.dtype)"


class _Part(NamedTuple):
    """A term of a loss: what to import, `name = module`, and the call."""

    library: str
    name: str
    module: str
    call: str


def equivalent(
    family: str, params: Mapping[str, Value], task: Task, class_frequencies: Sequence[float] | None = None
) -> str | None:
    """Code that runs when pasted and leaves a function `equivalent(logits, target)`, or None where no library agrees.

    It uses torch, segmentation-models-pytorch or MONAI. Numbers are those of `snippet`, rounded to 4 significant digits
    (what follows from them to 7), so that both texts give the same loss.

    Args:
        family: a name in `FAMILIES`.
        params: coordinates as `build_loss` takes them.
        task: binary or multiclass.
        class_frequencies: as for `build_loss`.

    Raises:
        LossError: if `build_loss` would refuse.
    """
    if family in FAMILIES and FAMILIES[family].relative:
        return None
    values = {
        name: round_significant(value)
        for name, value in check_coordinates(family, task, params, class_frequencies).items()
    }
    entry = FAMILIES[family]
    if class_frequencies is not None and needs_frequencies(values, task):
        total = sum(class_frequencies)
        class_frequencies = [float(f"{f / total:.4g}") for f in class_frequencies]
    found = _kernel(make_kernel_settings(entry, task, values, class_frequencies), values, task)
    return None if found is None else _text(*found)


def _text(parts: list[_Part], result: str) -> str:
    order = [TORCH, SMP, MONAI]
    lines = sorted({part.library for part in parts}, key=order.index)
    setup = [f"{part.name} = {part.module}" for part in parts]
    return "\n".join(
        [
            *lines,
            "",
            "# The same value where every class occurs in the batch and no pixel is ignored.",
            *setup,
            *(f"# on a GPU: {part.name}.to(logits.device)" for part in parts if "torch.tensor" in part.module),
            "",
            "",
            "def equivalent(logits, target):",
            f"    return {result}",
            "",
        ]
    )


def _kernel(settings: KernelSettings, values: Mapping[str, Value], task: Task) -> tuple[list[_Part], str] | None:
    parts, terms = [], []
    if settings.hard_fraction < 1 or settings.boundary_weight > 0:
        return None
    if settings.mix > 0:
        pixels = _focal(settings, values, task) if settings.gamma > 0 else _entropy(settings, task)
        if pixels is None:
            return None
        parts.append(pixels)
        terms.append(pixels.call if settings.mix == 1 else f"{settings.mix!r} * {pixels.call}")
    if settings.mix < 1:
        overlap = _overlap(settings, task)
        if overlap is None:
            return None
        parts.append(overlap)
        terms.append(overlap.call if settings.mix == 0 else f"{_derived(1 - settings.mix)} * {overlap.call}")
    return parts, " + ".join(terms)


def _entropy(settings: KernelSettings, task: Task) -> _Part | None:
    weights = settings.class_weights
    if task == "binary":
        low, high = weights or (1.0, 1.0)
        if low == 0:
            return None
        given = "" if low == high else f"pos_weight=torch.tensor({_derived(high / low)})"
        call = f"entropy(logits, {FLOAT_TARGET})"
        module = f"torch.nn.BCEWithLogitsLoss({given})"
        return _Part(TORCH, "entropy", module, call if low == 1 else f"{_derived(low)} * {call}")
    if weights is None:
        return _Part(TORCH, "entropy", f"torch.nn.CrossEntropyLoss(ignore_index={IGNORE})", "entropy(logits, target)")
    listed = ", ".join(map(_derived, weights))
    # torch would divide by the weights' sum.
    module = f'torch.nn.CrossEntropyLoss(torch.tensor([{listed}]), ignore_index={IGNORE}, reduction="sum")'
    return _Part(TORCH, "entropy", module, f"entropy(logits, target) / (target != {IGNORE}).sum()")


def _focal(settings: KernelSettings, values: Mapping[str, Value], task: Task) -> _Part | None:
    alpha = values.get("alpha")
    if task == "binary":
        module = f'smp.losses.FocalLoss("binary", alpha={alpha!r}, gamma={settings.gamma!r}, ignore_index={IGNORE})'
        return _Part(SMP, "focal", module, "focal(logits, target)")
    given = ""
    if alpha is not None:
        weights = settings.class_weights
        # MONAI's α is against the first class, ours against the most frequent one.
        if weights is None or weights[0] != 1 - alpha or any(w != alpha for w in weights[1:]):
            return None
        given = f", alpha={alpha!r}"
    module = f"monai.losses.FocalLoss(gamma={settings.gamma!r}{given}, use_softmax=True, to_onehot_y=True)"
    # MONAI divides by the number of classes, too.
    return _Part(MONAI, "focal", module, "logits.shape[1] * focal(logits, target.unsqueeze(1))")


def _overlap(settings: KernelSettings, task: Task) -> _Part | None:
    a, b, exponent = settings.fp_weight, settings.fn_weight, settings.overlap_exponent
    if exponent != 1 and task != "binary":
        return None  # theirs is the exponent of the mean over the classes
    if exponent == 1 and a == b in (0.5, 1.0):
        name = "Dice" if a == 0.5 else "Jaccard"
        module = f'smp.losses.{name}Loss("{task}", smooth=1.0)'
        return _Part(SMP, name.lower(), module, f"{name.lower()}(logits, target)")
    given = f"alpha={_derived(a)}, beta={_derived(b)}" + ("" if exponent == 1 else f", gamma={exponent!r}")
    return _Part(SMP, "tversky", f'smp.losses.TverskyLoss("{task}", smooth=1.0, {given})', "tversky(logits, target)")


def _derived(value: float) -> str:
    """Return a number that follows from rounded ones."""
    return repr(float(f"{value:.7g}"))
