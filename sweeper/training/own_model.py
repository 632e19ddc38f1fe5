"""The user's network (`--model module:function`): built, and tested before any training."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

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
    if isinstance(function, nn.Module):
        raise UsageError(
            f"{OPTION} {code.name} must make a network, found one that is made ({type(function).__name__}); name its "
            "class, or a function that returns a new one"
        )
    try:
        model = function(in_channels=channels, classes=outputs)
    except Exception as error:
        raise UsageError(
            f"{OPTION} {code.name}(in_channels={channels}, classes={outputs}) must give a network, and failed: "
            f"{format_error_line(error)}"
        ) from error
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"{OPTION} {code.name}(in_channels={channels}, classes={outputs}) must give a torch.nn.Module, got "
            f"{type(model).__name__}; return the module itself"
        )
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
        problems = [*_find_weight_problems(model, again)]
        if not problems:  # these checks need sound weights
            problems += [*_find_answer_problems(model, channels, outputs, sizes)]
    refuse_user_code(problems, OPTION, code, "trained")


def _find_weight_problems(model: nn.Module, again: nn.Module) -> Iterator[str]:
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in model.parameters()):
        yield "its weights must be there when it is made, found lazy layers; give them their numbers of channels"
        return
    if not _has_same_start(model, again):
        yield (
            "its initial weights must follow from torch's seed alone, so that all trainings of a seed begin alike, and "
            "two of them differ; draw them with torch, and from no other source"
        )
    try:
        copy.deepcopy(model)
        again.load_state_dict(model.state_dict())
    except Exception as error:
        rule = "it must be possible to copy it, and to load its state_dict() into another of its kind"
        yield f"{rule}: {format_error_line(error)}"


def _has_same_start(model: nn.Module, again: nn.Module) -> bool:
    first, second = list(model.parameters()), list(again.parameters())
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def _find_answer_problems(model: nn.Module, channels: int, outputs: int, sizes: list[tuple[int, int]]) -> Iterator[str]:
    for height, width in dict.fromkeys(sizes):
        for training in (True, False):
            mode = "in training" if training else "in evaluation"
            model.train(training)
            images = torch.randn(2 if training else 1, channels, height, width)
            try:
                answer = model(images)
            except Exception as error:
                yield f"{mode} it must answer images of {height}×{width}, and failed: {format_error_line(error)}"
                continue
            wrong = _find_shape_problem(answer, (len(images), outputs, height, width))
            if wrong is not None:
                yield f"{mode}, for images of shape {tuple(images.shape)}, {wrong}"
            elif training:
                yield from _find_gradient_problems(model, answer)


def _find_shape_problem(answer: object, expected: tuple[int, ...]) -> str | None:
    if not isinstance(answer, Tensor):
        return f"it must give one tensor of logits, got {type(answer).__name__}; choose the main output in a wrapper"
    if tuple(answer.shape) != expected:
        return f"it must give logits of shape {expected}, got {tuple(answer.shape)}"
    if not answer.is_floating_point():
        return f"it must give floating-point logits, got {answer.dtype}; leave argmax to sweeper"
    if not torch.isfinite(answer).all():
        return "it must give finite logits, got NaN or infinity"
    return None


def _find_gradient_problems(model: nn.Module, logits: Tensor) -> Iterator[str]:
    if not logits.requires_grad:
        yield "its logits must depend on its weights by operations with derivatives: they have none"
        return
    model.zero_grad(set_to_none=True)
    try:
        torch.nn.functional.softplus(logits).mean().backward()  # type: ignore[no-untyped-call]
    except Exception as error:
        yield f"its gradients must be computable, and failed: {format_error_line(error)}"
        return
    if not any(p.grad is not None and bool(p.grad.any()) for p in model.parameters()):
        yield "some weight must change the logits, and every gradient is 0"
