"""What a run is: every value that decides its numbers, and nothing else."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from harness.api import Settings

HARNESS_VERSION = 1
"""Goes up when a change of the harness itself (streams, rollout, meta-test, adaptation rules) moves numbers."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$", max_length=64)]
"""Files and folders are called by names: two of them, and an ending, must fit into the name of a file."""
Count = Annotated[int, Field(ge=1, le=10**9)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Component(Settings):
    """A suite, an algorithm or a rule by name, with all of its settings, defaults included."""

    name: str
    version: Annotated[int, Field(ge=1)]
    settings: dict[str, Any]
    origin: str | None = None
    """Whose code it is if not this project's: the checksum of a user's file, or the name of an installed package."""

    @model_serializer(mode="wrap")
    def _as_before_where_it_is_ours(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # The canonical JSON of what has no origin must stay what it was: run_ids hash it.
        return _without_defaults(handler(self), {"origin": None})


def _without_defaults(data: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """The data without the keys that say what goes without saying."""
    return {key: value for key, value in data.items() if key not in defaults or value != defaults[key]}


class Budget(Settings):
    """How much a run trains, and on how many threads."""

    meta_iterations: Annotated[int, Field(ge=0, le=10**9)]
    meta_batch_size: Count
    episodes_per_task: Count
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """Intra-operation threads: they can change the last bit of a sum, so they are part of the spec."""


ModelChoice = Literal["last", "best"]
"""Which of the meta-parameters of a training are tested: those it ended with, or those whose adapted policies had the
highest mean return in training (the first of equals)."""


class Protocol(Settings):
    """One way of adapting to the meta-test tasks: which model, which rule, how many updates, on how much data."""

    rule: str
    updates: Annotated[int, Field(ge=0)]
    settings: dict[str, Any]
    steps_per_task: Count | None = None
    """Environment steps per update instead of a number of episodes: episodes that end early are replaced."""
    model: ModelChoice = "last"

    @model_serializer(mode="wrap")
    def _as_before_where_it_is_usual(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # As for Component: run_ids hash the canonical JSON of protocols that know neither key.
        return _without_defaults(handler(self), {"steps_per_task": None, "model": "last"})


class Evaluation(Settings):
    """The meta-test, the same for every protocol."""

    seed: Seed
    meta_test_tasks: Count
    episodes_per_task: Count
    shared_noise: bool
    """One stream of action noise for all meta-test tasks (a code that resets its generator for every task)."""
    protocols: dict[Name, Protocol]


class RunSpec(Settings):
    """One run. Two specs that are equal are the same run, whatever study asks for it and under whatever label."""

    harness_version: Count = HARNESS_VERSION
    suite: Component
    algorithm: Component
    seed: Seed
    budget: Budget
    evaluation: Evaluation

    def canonical_json(self) -> str:
        """The one text form of this spec: sorted keys, no spaces, shortest exact floats."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @functools.cached_property
    def run_id(self) -> str:
        """16 hex digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()[:16]

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> RunSpec:
        """As pydantic's, and with a run_id of its own."""
        copy = super().model_copy(update=update, deep=deep)
        copy.__dict__.pop("run_id", None)
        return copy

    @property
    def training_id(self) -> str:
        """The same of all that decides the training: runs that differ in their meta-test only share it."""
        decides = {key: value for key, value in json.loads(self.canonical_json()).items() if key != "evaluation"}
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


class SourceFile(Settings):
    """A user's Python file as it was read: ``name`` as the study has it, ``path`` where it was."""

    name: str
    path: str
    text: str

    @property
    def origin(self) -> str:
        """``sha256:...`` of its bytes; see :attr:`Component.origin`."""
        return f"sha256:{hashlib.sha256(self.text.encode()).hexdigest()}"


Device = Literal["auto", "cpu", "cuda"]
"""Where a run computes; ``auto`` is CUDA where the process that executes it sees a GPU, else the CPU."""


class Resources(Settings):
    """What a run needs of a machine. Not part of what it is: the manifest records where it was computed."""

    device: Device = "cpu"
    cpus: Annotated[float, Field(gt=0, le=1024)] | None = None
    """CPUs that the scheduler sets aside; None for as many as the budget has threads."""
    gpus: Annotated[float, Field(ge=0, le=64)] | None = None
    """GPUs, or a fraction of one that several runs share; None for one where ``device`` is ``cuda``, else none. On the
    CPU none is asked for."""

    @field_validator("cpus", "gpus")
    @classmethod
    def _fraction_or_whole(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and value != int(value):
            raise ValueError("above 1 only whole numbers can be set aside")
        return value

    @property
    def num_gpus(self) -> float:
        """GPUs to ask for, and for ``auto`` to ask for where there are any."""
        if self.device == "cpu":
            return 0.0
        return self.gpus if self.gpus is not None else float(self.device == "cuda")


class PlannedRun(Settings):
    """A run as a study names it: the label of its method, its spec, the files it executes, and what it needs."""

    study: str
    setting: str
    scale: str
    method: str
    spec: RunSpec
    files: tuple[SourceFile, ...] = ()
    resources: Resources = Resources()

    @property
    def title(self) -> str:
        """``n10_k5 maml seed 0``."""
        return f"{self.setting} {self.method} seed {self.spec.seed}"


Status = Literal["missing", "running", "interrupted", "done", "diverged", "failed", "damaged"]
"""State of a planned run. ``interrupted``: it has begun, has a checkpoint perhaps, and nobody works on it. ``damaged``:
it was finished, and its files are no longer those that it left."""
