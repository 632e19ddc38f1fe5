"""Work on a few threads whose results arrive in order, with a bound on what is held in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

Tick = Callable[[int, int], None]
"""Is called with how many of how many are done."""
BUDGET = 128 << 20
"""Bytes of results that may be held or in the making; a single larger one is made alone."""


def in_order(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int = 4,
    *,
    cost: Callable[[Item], int] | None = None,
) -> Iterator[Result]:
    """`map` on a few threads with a bounded number of results in memory.

    Args:
        function: what is done, on any thread.
        items: what it is done to.
        workers: threads.
        cost: bytes that an item's result takes; results under way stay within `BUDGET`.
    """
    with ThreadPoolExecutor(workers) as pool:
        window: deque[tuple[Future[Result], int]] = deque()
        held = 0
        for item in items:
            size = cost(item) if cost else 0
            while window and (len(window) > 2 * workers or held + size > BUDGET):
                done = window[0][1]
                yield window.popleft()[0].result()  # no name here: the result must end with its consumer
                held -= done
            window.append((pool.submit(function, item), size))
            held += size
        while window:
            yield window.popleft()[0].result()
