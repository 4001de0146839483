"""A run that kills its process again and again is given up: the grid would never get past it."""

from __future__ import annotations

import json

from harness.errors import UserError
from harness.files import read_json
from harness.results import RunDirectory

MOST = 3
"""Tries of a run that dies without an error and without a new checkpoint."""


def poisoned(tries: int) -> str:
    """Why such a run is given up."""
    return (
        f"its process died {tries} times without an error or progress: killed, out of memory, or a crash below Python"
    )


class Tries:
    """How often a run was begun and neither ended nor got further; kept in its folder while it runs."""

    def __init__(self, directory: RunDirectory) -> None:
        self._path = directory.tries
        self._newest = next((path.name for path in directory.newest_checkpoint()), "")

    def begin(self) -> str:
        """Count a try. The reason, and a count that begins anew, where there were too many."""
        try:
            known = read_json(self._path)
            tries = int(known["tries"]) if known["checkpoint"] == self._newest else 0
        except (UserError, KeyError, TypeError, ValueError):
            tries = 0
        if tries >= MOST:
            self.end()
            return poisoned(tries)
        # Not flushed to the disk, as results are: it has to outlive the process, not the machine.
        self._path.write_text(json.dumps({"tries": tries + 1, "checkpoint": self._newest}))
        return ""

    def end(self) -> None:
        """The run has ended, or was stopped by someone who says so."""
        self._path.unlink(missing_ok=True)
