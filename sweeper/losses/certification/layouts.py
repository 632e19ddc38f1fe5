"""Layouts of memory in which networks give logits: the same numbers in another order, or one number many times."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def _rotated(x: Tensor) -> Tensor:
    return x.rot90(-1, (-2, -1)).contiguous().rot90(1, (-2, -1))


def _tokens(x: Tensor) -> Tensor:
    return x.movedim(1, -1).transpose(1, 2).contiguous().transpose(1, 2).movedim(-1, 1)


def _sliced(x: Tensor) -> Tensor:
    wide = x.new_zeros(*x.shape[:-2], 2 * x.shape[-2], x.shape[-1] + 2)
    wide[..., ::2, 1:-1] = x
    return wide[..., ::2, 1:-1]


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed": lambda x: x.mT.contiguous().mT,
    "rotated by 90°": _rotated,
    "tokens (N, W, H, C)": _tokens,
    "channels_last": lambda x: x.movedim(1, -1).contiguous().movedim(-1, 1),
    "classes first": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "a slice of something larger": _sliced,
    "one image expanded": lambda x: x[:1].expand_as(x),
    "one row expanded": lambda x: x[..., :1, :].expand_as(x),
}
"""(N, C, H, W) → the same shape and type. The last two repeat values; the others only move them."""
