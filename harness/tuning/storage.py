"""Where the trials of a tuning are kept, and a sampler whose proposals do not depend on when it was started."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import optuna
from filelock import FileLock, Timeout
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from harness.errors import UserError
from harness.redaction import SPECIAL
from harness.tuning.schema import ChoiceEntry, Parameter, SamplerEntry

LOCK_GRACE_S = 5
"""A lock in the journal that is older than this belongs to a process that was killed."""
PORTS = {"postgresql": 5432, "mysql": 3306}


@contextlib.contextmanager
def open_storage(folder: Path, url: str | None) -> Iterator[BaseStorage]:
    """The storage of a tuning, for one driver at a time: a journal in its folder, or a database by URL.

    Errors: another process that is tuning, a journal that is not one, a database that does not answer.
    """
    logging.getLogger("optuna").setLevel(logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=2.0):
            yield journal(folder) if url is None else database(url)
    except Timeout:
        raise UserError(f"{folder}: another process is tuning here; wait for it, or choose another --results") from None


def journal(folder: Path) -> BaseStorage:
    """The journal of a tuning. A process that was killed may have left half a line at its end: it is cut off."""
    path = folder / "optuna.journal"
    if path.exists():
        _mend(path)
    backend = JournalFileBackend(str(path), lock_obj=JournalFileSymlinkLock(str(path), grace_period=LOCK_GRACE_S))
    try:
        return JournalStorage(backend)
    except (ValueError, KeyError, TypeError, AssertionError, OSError) as error:
        raise _damaged(path, str(error) or type(error).__name__) from None


def told_trials(folder: Path, studies: Mapping[str, int]) -> dict[str, int]:
    """How many trials are told in the journal of a folder: by study, of as many as it asks for.

    Errors: as of :func:`open_storage`.
    """
    if not (folder / "optuna.journal").exists():
        return dict.fromkeys(studies, 0)
    with open_storage(folder, None) as storage:
        ids = {study.study_name: study._study_id for study in storage.get_all_studies()}
        trials = {name: storage.get_all_trials(ids[name], deepcopy=False) for name in studies if name in ids}
    return {
        name: sum(trial.state.is_finished() for trial in trials.get(name, [])[:most]) for name, most in studies.items()
    }


def _mend(path: Path) -> None:
    """Cut off what follows the last whole line. Errors: a line that is none of a journal; the file stays as it is."""
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            known = isinstance(json.loads(line)["op_code"], int)
        except (ValueError, KeyError, TypeError):
            known = False
        if not known:
            raise _damaged(path, f"line {number}")
    half = content[len(whole) :]
    if half and not whole and not half.startswith(b"{"):
        raise _damaged(path, "line 1")
    if half:
        path.write_bytes(whole)


def _damaged(path: Path, what: str) -> UserError:
    return UserError(f"{path}: not a journal of trials, or damaged ({what}); move it away to begin anew")


def database(url: str) -> BaseStorage:
    """A database by URL, such as ``sqlite:///trials.db`` or ``postgresql+psycopg://user@host/name``."""
    try:
        parsed = urlparse(url)
        kind = parsed.scheme.partition("+")[0]
        port = parsed.port or PORTS.get(kind)
    except ValueError:
        raise UserError(f"--storage {url}: not the address of a database{SPECIAL}") from None
    if kind not in {"sqlite", *PORTS}:
        raise UserError(f"--storage {url}: expected sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME")
    if kind in PORTS:
        try:
            with socket.create_connection((parsed.hostname or "127.0.0.1", port or 0), timeout=5):
                pass
        except OSError as error:
            reason = error.strerror or str(error) or "no answer"
            raise UserError(
                f"--storage {parsed.hostname}:{port}: the database does not answer ({reason}); "
                "start it, or leave --storage out"
            ) from None
    try:
        return RDBStorage(url)
    except Exception as error:  # drivers raise many kinds
        reason = str(error).splitlines()[0][:200]
        if isinstance(error, ImportError):
            reason = f"its driver is not installed; `.venv/bin/pip install` it, such as psycopg[binary] ({reason[:80]})"
        raise UserError(f"--storage {url}: the database cannot be used: {reason}") from None


class Reseeded(BaseSampler):
    """A sampler that is made anew for every parameter of every trial, from seed, stage, number and name.

    What it proposes then depends on the trials that it sees, and not on how many it proposed before: a tuning that was
    interrupted goes on as if it had not been.
    """

    def __init__(self, entry: SamplerEntry, seed: int, stage: str) -> None:
        self._entry, self._seed, self._stage = entry, seed, stage

    def _fresh(self, trial: Any, name: str) -> BaseSampler:
        digest = np.frombuffer(hashlib.sha256(f"{self._stage}/{name}".encode()).digest(), dtype=np.uint32)[:4].tolist()
        seed = int(np.random.SeedSequence([self._seed, trial.number, *digest]).generate_state(1)[0])
        if self._entry.name == "random":
            return RandomSampler(seed=seed)
        return TPESampler(
            n_startup_trials=self._entry.startup_trials,
            n_ei_candidates=self._entry.candidates,
            multivariate=False,
            constant_liar=True,
            seed=seed,
        )

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, BaseDistribution]:
        """Every parameter is proposed by itself."""
        return {}

    def sample_relative(self, study: Any, trial: Any, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        """Nothing is proposed jointly."""
        return {}

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: BaseDistribution) -> Any:
        """One parameter of one trial."""
        return self._fresh(trial, param_name).sample_independent(study, trial, param_name, param_distribution)


def distribution(entry: Parameter) -> BaseDistribution:
    """Optuna's name for a parameter."""
    if isinstance(entry, ChoiceEntry):
        return CategoricalDistribution(entry.choices)
    return FloatDistribution(entry.low, entry.high, log=entry.log)


def suggest(trial: optuna.Trial, space: dict[str, Parameter]) -> dict[str, Any]:
    """The trial's point; what it was given before an interruption stays."""
    return {name: trial._suggest(name, distribution(entry)) for name, entry in space.items()}
