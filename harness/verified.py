"""Which finished runs were compared with their checksums, and how their files looked then.

Reading and hashing every file of ten thousand runs takes a while; asking the system whether size and time of a file are
what they were does not. A file that looks as it did is trusted, as version control trusts it; any other is read again.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.files import read_json, write_atomic
from harness.results import FINISHED, RunDirectory
from harness.spec import Status

Look = dict[str, list[int]]
"""Name of a file -> its size in bytes and the time of its last change in ns."""


class Verified:
    """``<results>/verified.json``; lost or spoilt, it is made anew."""

    def __init__(self, results: Path) -> None:
        self._path = results / "verified.json"
        self._changed = False
        try:
            known = read_json(self._path) if self._path.exists() else {}
        except UserError:
            known = {}
        self._known: dict[str, Any] = known if isinstance(known, dict) else {}

    def status(self, directory: RunDirectory) -> Status:
        """State of a run; of a finished one without reading its files, if they look as they did."""
        name, look = directory.folder.name, _look(directory)
        known = self._known.get(name)
        if directory.done.name in look and isinstance(known, dict) and known.get("files") == look:
            status: Status = known.get("status", "damaged")
            if status in FINISHED:
                return status
        status = directory.status()
        if status in FINISHED:
            self._known[name], self._changed = {"status": status, "files": look}, True
        return status

    def save(self) -> None:
        """Keep what was found; where the folder is read-only, it is found again."""
        if self._changed:
            with contextlib.suppress(UserError):
                write_atomic(self._path, json.dumps(self._known).encode())


def _look(directory: RunDirectory) -> Look:
    """The files of a run, without its lock and its folders."""
    try:
        with os.scandir(directory.folder) as entries:
            files = [(entry.name, entry.stat()) for entry in entries if entry.name[0] != "." and entry.is_file()]
    except OSError:
        return {}
    return {name: [found.st_size, found.st_mtime_ns] for name, found in sorted(files)}
