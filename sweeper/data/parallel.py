"""Run work on a few threads; results arrive in order, and those in memory are limited."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

Tick = Callable[[int, int], None]
"""Called with the number of finished items and the number of all items."""

BUDGET = 128 << 20
"""Most bytes of results in memory or in progress; a larger result is made without others."""


def map_in_order(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int = 4,
    *,
    cost: Callable[[Item], int] = lambda _: 0,
) -> Iterator[Result]:
    """Map a function over items on a few threads with a bounded number of results in memory.

    `cost`: bytes of an item's result; results in progress stay within `BUDGET`.
    """
    with ThreadPoolExecutor(workers) as pool:
        window: deque[tuple[Future[Result], int]] = deque()
        held = 0
        for item in items:
            size = cost(item)
            while window and (len(window) > 2 * workers or held + size > BUDGET):
                done = window[0][1]
                yield window.popleft()[0].result()  # no variable, so that the consumer holds the only reference
                held -= done
            window.append((pool.submit(function, item), size))
            held += size
        while window:
            yield window.popleft()[0].result()
