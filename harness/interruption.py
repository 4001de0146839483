"""Ctrl-C as a request: finish the step, save, then stop; asked twice, stop at once."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Within the block the first signal is kept, and told by the function that is given; the second one interrupts.

    In another thread than the main one nothing is kept.
    """
    requested = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if requested.is_set():
            raise KeyboardInterrupt
        requested.set()
        print("\nfinishing this step and saving; once more to stop at once", file=sys.stderr, flush=True)

    if threading.current_thread() is not threading.main_thread():
        yield requested.is_set
        return
    # Only what would interrupt: a worker's own way of being terminated stays as it is.
    answered = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is signal.default_int_handler]
    before = {number: signal.signal(number, on_signal) for number in answered}
    try:
        yield requested.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def terminate_like_interrupt() -> None:
    """A request to terminate, as batch systems send it, is answered like Ctrl-C."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


@contextlib.contextmanager
def keeping_signals() -> Iterator[None]:
    """A library that answers these signals in its own way does not get to."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
