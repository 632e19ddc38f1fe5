"""The user's network (`--model module:function`): built, and tested before any training."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import product

import torch
from torch import nn

from sweeper.core.errors import UsageError
from sweeper.core.own_code import UserCode, format_error_line, load_code, refuse_user_code

OPTION = "--model"


def build_own(code: UserCode, *, channels: int, outputs: int) -> nn.Module:
    """Call the user's function: `function(in_channels=…, classes=…)`.

    Args:
        code: the function.
        channels: channels of an image.
        outputs: channels of the logits: 1 for a binary task, else one per class.

    Raises:
        UsageError: if the function fails, or returns no module.
    """
    with torch.random.fork_rng(devices=[]):  # draws during the import must not change the seeded weights
        function = load_code(code, OPTION)
    try:
        model = function(in_channels=channels, classes=outputs)
        if not isinstance(model, nn.Module):
            raise TypeError(f"it gives {type(model).__name__}, which is no torch.nn.Module")
    except Exception as error:
        raise UsageError(
            f"{OPTION} {code.name}(in_channels={channels}, classes={outputs}) must give a network, and failed: "
            f"{format_error_line(error)}"
        ) from error
    return model


def check_own(code: UserCode, *, channels: int, outputs: int, sizes: list[tuple[int, int]], seed: int) -> None:
    """Test a network as trainings will use it.

    Args:
        code: the function.
        channels: channels of an image.
        outputs: channels of the logits.
        sizes: heights and widths of its inputs: the training crop, and images for scoring.
        seed: seed of the initial weights.

    Raises:
        UsageError: with every problem.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build_own(code, channels=channels, outputs=outputs)
        torch.manual_seed(seed)
        again = build_own(code, channels=channels, outputs=outputs)
        refuse_user_code([*_find_problems(model, again, channels, outputs, sizes)], OPTION, code, "trained")


def _find_problems(
    model: nn.Module, again: nn.Module, channels: int, outputs: int, sizes: list[tuple[int, int]]
) -> Iterator[str]:
    try:
        starts = zip(model.parameters(), again.parameters(), strict=True)
        is_same = all(torch.equal(first, second) for first, second in starts)
        copy.deepcopy(model)
        again.load_state_dict(model.state_dict())
    except Exception as error:
        yield (
            "it must have all weights when it is made, and be possible to copy, and to load from the state_dict() of "
            f"another of its kind: {format_error_line(error)}"
        )
        return
    if not is_same:
        yield (
            "its initial weights must follow from torch's seed alone, so that all trainings of a seed begin alike, and "
            "two of them differ; draw them with torch, and from no other source"
        )
    for (height, width), training in product(dict.fromkeys(sizes), (True, False)):
        model.train(training)
        images = torch.randn(2 if training else 1, channels, height, width)
        try:
            answer = model(images)
            wrong = answer.shape != (len(images), outputs, height, width) or not answer.isfinite().all()
            if training:
                torch.nn.functional.softplus(answer).mean().backward()  # type: ignore[no-untyped-call]
        except Exception as error:
            mode = "learn from" if training else "answer"
            yield f"it must {mode} images of {height}×{width}, and failed: {format_error_line(error)}"
            continue
        if wrong:
            yield (
                f"it must give finite logits of shape {(len(images), outputs, height, width)} for images of shape "
                f"{tuple(images.shape)}, got {tuple(answer.shape)}"
            )
    if not any(p.grad is not None and bool(p.grad.any()) for p in model.parameters()):
        yield "some weight must change the logits, and every gradient is 0"
