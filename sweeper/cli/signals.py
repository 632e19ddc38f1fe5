"""Ctrl-C, SIGTERM and SIGHUP: the first asks the sweep to stop cleanly, a second Ctrl-C aborts.

A handler may interrupt anything, so it prints nothing: a thread reports that the stop was received. The thread also
ends a process that does not end in time after SIGTERM or SIGHUP; stored results are complete at any time.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from sweeper.core.errors import InterruptedSweepError

ENDING = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
"""SIGHUP is sent when the terminal is closed; some platforms lack it."""
STOPPING = [signal.SIGINT, *ENDING]
END_SECONDS = 8.0
"""Seconds from SIGTERM or SIGHUP until a process that is still running is ended."""


class StopRequest:
    """Stores the first signal as an exit status; installed while the `with` block runs.

    SIGHUP stays ignored if it is, as under `nohup`. Before `defer_signals` nothing has been trained that could be lost:
    a signal ends the program at once.
    """

    def __init__(self, log: Callable[[str], None], *, whole: bool = False) -> None:
        """Create a stop request that is not installed yet.

        Args:
            log: receives from another thread that the stop was received.
            whole: the process belongs only to this command, and also hangs if it does not end after the block.
        """
        self.status: int | None = None
        self._deferred = False
        self._log, self._whole = log, whole
        self._before: dict[signal.Signals, object] = {}
        self._end: threading.Timer | None = None

    def defer_signals(self) -> None:
        """Let the first signal ask for a clean stop from now on.

        Raises:
            InterruptedSweepError: if a signal came before, and a library caught its exception.
        """
        self._end_at_once()
        self._deferred = True

    def __enter__(self) -> StopRequest:
        for number in STOPPING:
            if number not in (signal.SIGINT, signal.SIGTERM) and signal.getsignal(number) is signal.SIG_IGN:
                continue
            self._before[number] = signal.signal(number, self._receive_signal)
        heard, self._tells = socket.socketpair()
        self._tells.setblocking(False)
        # Written by the interpreter's own handler, even while the main thread waits in a library.
        self._descriptor_before = signal.set_wakeup_fd(self._tells.fileno(), warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch_signals, args=(heard,), daemon=True, name="signals")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        signal.set_wakeup_fd(self._descriptor_before)
        self._tells.close()
        self._thread.join(1.0)
        self._cancel_forced_end()

    def _receive_signal(self, number: int, _: FrameType | None) -> None:
        again = self.status is not None
        self.status = self.status or 128 + number
        if not self._deferred:
            self._end_at_once()
        if again and number == signal.SIGINT:
            raise KeyboardInterrupt

    def _end_at_once(self) -> None:
        if self.status is not None:
            words = "stopped before the first result; repeat the command to begin again"
            raise InterruptedSweepError(words, self.status)

    def _watch_signals(self, heard: socket.socket) -> None:
        """Handle the numbers of signals until the other end is closed."""
        warned = False
        with heard:
            while got := heard.recv(1):
                if got[0] in ENDING and self._end is None:
                    self._end = threading.Timer(END_SECONDS, os._exit, (128 + got[0],))
                    self._end.daemon = True
                    self._end.start()
                may_warn = self._deferred and not warned
                if may_warn and got[0] in STOPPING:
                    warned = True
                    with suppress(Exception):  # the caller's own stream may be closed
                        self._log("stopping: what is finished is kept (Ctrl-C again to abort at once)")
        self._cancel_forced_end()

    def _cancel_forced_end(self) -> None:
        if self._end is not None and not self._whole:
            self._end.cancel()


class EndedBySignal(KeyboardInterrupt):
    """SIGTERM or SIGHUP, if they end a command like Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.status = 128 + number


@contextmanager
def end_like_ctrl_c() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a command like Ctrl-C, which removes its unfinished files.

    A signal that is ignored or already handled is left unchanged. A second one ends the process at once.
    """

    def end(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise EndedBySignal(number)

    others = [n for n in STOPPING if n != signal.SIGINT]
    handled = [n for n in others if signal.getsignal(n) is signal.SIG_DFL]
    for number in handled:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, signal.SIG_DFL)
