"""Who is told what a run does, and may ask it to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.api import Metrics


class Interrupted(Exception):
    """The run was asked to stop, and has left a checkpoint."""


@dataclass(frozen=True)
class Watcher:
    """Who is told what a run does, and may ask it to stop.

    on_iteration: called with (iteration, metrics) after each meta-iteration, and first, after a resume, for those that
    the checkpoint remembers. on_checkpoint: with the number of meta-iterations that a new checkpoint has behind it.
    warn: with one line. should_stop: asked after each meta-iteration; True leaves a checkpoint and ends the run.
    """

    on_iteration: Callable[[int, Metrics], None] = lambda iteration, metrics: None
    on_checkpoint: Callable[[int], None] = lambda iteration: None
    warn: Callable[[str], None] = lambda message: None
    should_stop: Callable[[], bool] = lambda: False


NOBODY = Watcher()
"""Nobody is told anything."""
