"""Checkpoints where every machine can reach them: a folder that all of them see, or an object store.

A run that loses its machine goes on from here on another one. What is written is what a run's own folder holds: tensors
first, then the JSON with their checksum, so that half an upload is noticed like any damaged checkpoint.
"""

from __future__ import annotations

import functools
import posixpath
import uuid
from pathlib import Path

from harness.errors import UserError, first_line
from harness.files import write_atomic
from harness.results import RunDirectory
from harness.spec import RunSpec

EXAMPLES = "expected a folder or an fsspec URL such as s3://bucket/prefix"


class CheckpointStore:
    """The store at a URL: ``<url>/runs/<run_id>/<iteration>.safetensors`` and ``.json``."""

    def __init__(self, url: str) -> None:
        """Errors: a URL of a kind that is not known, or whose package is not installed."""
        self._url = url
        try:
            import fsspec

            self._files, root = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise UserError(f"--checkpoints {url}: its package is not installed: {error}") from None
        except Exception as error:  # every kind of file system has its own
            raise UserError(f"--checkpoints {url}: {EXAMPLES} ({first_line(error)})") from None
        self._root = str(root).rstrip("/")

    def require_usable(self) -> None:
        """Prove that the store can be written to and read. Errors: it cannot."""
        probe = self._path(f".probe-{uuid.uuid4().hex}")
        try:
            self._write(probe, b"probe")
            whole = self._files.cat_file(probe) == b"probe"
            self._files.rm_file(probe)
        except Exception as error:
            raise UserError(f"--checkpoints {self._url}: the store cannot be used: {first_line(error)}") from None
        if not whole:
            raise UserError(f"--checkpoints {self._url}: the store does not return what it was given")

    def keep(self, directory: RunDirectory) -> None:
        """Bring the newest checkpoint of a run's folder here, and forget those that the folder has dropped."""
        folder = self._path("runs", directory.folder.name)
        for path in directory.newest_checkpoint():
            self._write(f"{folder}/{path.name}", path.read_bytes())
        here = {path.name for path in directory.checkpoints.glob("*.*")}
        for name in self._names(folder):
            if name not in here:
                self._files.rm_file(f"{folder}/{name}")

    def fetch(self, directory: RunDirectory) -> None:
        """Bring into a run's folder what it lacks."""
        folder = self._path("runs", directory.folder.name)
        for name in self._names(folder):
            if not (directory.checkpoints / name).exists():
                write_atomic(directory.checkpoints / name, self._files.cat_file(f"{folder}/{name}"))

    def announce_training(self, spec: RunSpec) -> None:
        """Say that the newest checkpoint of a run is a whole training; see ``RunDirectory.announce_training``."""
        self._write(self._path("trainings", spec.training_id, spec.run_id), b"")

    def fetch_twin(self, directory: RunDirectory, spec: RunSpec) -> None:
        """Bring a run with the same training here, whole, unless this one has begun or has none."""
        if any(directory.newest_checkpoint()):
            return
        for name in self._names(self._path("trainings", spec.training_id)):
            twin = RunDirectory(directory.folder.parent / name)
            if twin.folder != directory.folder:
                self.fetch(twin)
                twin.announce_training(spec)
                return

    def _path(self, *parts: str) -> str:
        return posixpath.join(self._root, *parts)

    def _names(self, folder: str) -> list[str]:
        self._files.invalidate_cache()
        try:
            return sorted(posixpath.basename(str(path)) for path in self._files.ls(folder, detail=False))
        except FileNotFoundError:
            return []

    def _write(self, path: str, content: bytes) -> None:
        self._files.makedirs(posixpath.dirname(path), exist_ok=True)
        self._files.pipe_file(path, content)


@functools.lru_cache(maxsize=4)
def store_at(url: str) -> CheckpointStore:
    """One connection per process and URL."""
    return CheckpointStore(url)


def absolute(url: str) -> str:
    """A folder by its full path, so that it means the same to every process; a URL as it is."""
    return url if "://" in url else str(Path(url).resolve())
