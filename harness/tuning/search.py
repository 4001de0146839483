"""Optuna studies over studies: propose trials in batches, run them through the engine, tell them in order.

Numbers do not depend on the number of workers, nor on interruptions: trials are proposed in fixed batches from what
was told before the batch, the sampler draws from (seed, trial, parameter) alone, and a trial's runs are RunSpecs. A
trial whose run diverged has failed for good; one whose run raised, or lost its process, is tried again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.trial import FrozenTrial, TrialState

from harness.errors import UserError
from harness.results import FINISHED, RunDirectory
from harness.spec import PlannedRun
from harness.tuning.plan import Tuning, Values
from harness.tuning.schema import StageEntry
from harness.tuning.storage import Reseeded, suggest

TUNING_VERSION = 1
"""Goes up whenever a change of the search itself moves its trials."""
OF_TRAINING = ("pre_update_return", "post_update_return")
"""Curves whose means every trial records, whatever its objective is."""

RunAll = Callable[[list[PlannedRun]], None]
"""Execute what is missing of some runs; afterwards each of them has a status."""


class Best(NamedTuple):
    """The best trial of a stage."""

    trial: FrozenTrial
    assigned: Values


class Stage:
    """One search of a tuning, in its storage."""

    def __init__(self, tuning: Tuning, name: str, found: Values, storage: Any, results: Path, run_all: RunAll) -> None:
        """``found``: what the stages before assigned, by place in the study."""
        self.name, self.entry = name, tuning.file.stages[name]
        self._tuning, self._found, self._results, self._run_all = tuning, found, results, run_all
        entry, file = self.entry, tuning.file
        startup = entry.prune.startup_trials if entry.prune else 0
        # `pruned` asks only where the stage declares it.
        pruner = optuna.pruners.MedianPruner(n_startup_trials=startup, n_warmup_steps=0)
        open_study = partial(
            optuna.create_study,
            storage=storage,
            study_name=f"{tuning.stem}/{name}",
            direction="maximize",
            load_if_exists=True,
            sampler=Reseeded(file.sampler, file.seed, name),
            pruner=pruner,
        )
        self.study, identity = open_study(), self._identity()
        if self.study.user_attrs.get("identity") not in (None, identity) and not self._told():
            # Nothing is known of it yet: it may begin anew.
            optuna.delete_study(study_name=self.study.study_name, storage=storage)
            self.study = open_study()
        self._require(identity)

    def search(self) -> Iterator[int]:
        """Carry the stage to its number of trials; yields how many are told."""
        size = self._tuning.file.batch
        for start in range(0, self.entry.trials, size):
            numbers = range(start, min(start + size, self.entry.trials))
            if any(number >= len(self._told()) for number in numbers):
                self._batch(list(numbers))
            yield len(self._told())

    def best(self) -> Best:
        """The best finished trial, the first of equals; UserError if every trial failed."""
        finished = [one for one in self.trials() if one.state == TrialState.COMPLETE]
        if not finished:
            reasons = {one.user_attrs.get("reason", "") for one in self.trials()}
            raise UserError(f"stage {self.name}: none of its {len(self.trials())} trials has a value: {min(reasons)}")
        best = max(finished, key=lambda one: (one.value, -one.number))
        return Best(best, self._found | self._tuning.assigned(self.name, best.params))

    def trials(self) -> list[FrozenTrial]:
        """The trials that the stage asks for, in order."""
        return self.study.get_trials(deepcopy=False)[: self.entry.trials]

    def _told(self) -> list[FrozenTrial]:
        return [one for one in self.trials() if one.state.is_finished()]

    def _batch(self, numbers: list[int]) -> None:
        known = {one.number: one for one in self.study.get_trials(deepcopy=False)}
        attempts = []
        for number in numbers:
            if number in known and known[number].state.is_finished():
                continue
            # A trial that an interruption left running goes on with the point that it has.
            trial = optuna.Trial(self.study, known[number]._trial_id) if number in known else self.study.ask()
            values = suggest(trial, self.entry.space)
            attempts.append(_Attempt(trial, self._tuning.runs(self.name, values, self._found, number)))
        for index in range(len(self._tuning.seeds(self.name))):
            going = [one for one in attempts if one.state is None]
            self._run_all([one.runs[index] for one in going])
            for one in going:
                self._take(one, index)
        for one in attempts:
            self._tell(one)

    def _take(self, attempt: _Attempt, index: int) -> None:
        """Take notice of one run: its value, or why there is none, and whether the trial goes on."""
        run = attempt.runs[index]
        directory = RunDirectory.of(self._results, run.spec.run_id)
        if (status := directory.status()) not in FINISHED:
            raise UserError(
                f"stage {self.name}, {run.title}: {status}: {_reason(directory, status)}; nothing is told of its "
                "batch, and the same command tries again"
            )
        if status != "done":
            attempt.state, attempt.reason = TrialState.FAIL, f"{run.title}: {status}: {directory.reason()}"
            return
        attempt.values.append(_value(directory, self.entry, self._tuning.where(self.name, "objective")))
        attempt.curves.append(_means(directory))
        if self.entry.prune is None or index + 1 == len(attempt.runs):
            return
        # Optuna asks the finished trials; those of this batch are told after it.
        attempt.trial.report(_mean(attempt.values), index)
        if attempt.trial.should_prune():
            attempt.state, attempt.reason = TrialState.PRUNED, f"below the median after {index + 1} of its seeds"

    def _tell(self, attempt: _Attempt) -> None:
        trial = attempt.trial
        tried = attempt.runs[: max(len(attempt.values), 1)]
        trial.set_user_attr("run_ids", [run.spec.run_id for run in tried])
        trial.set_user_attr("values", attempt.values)
        curves = attempt.curves
        trial.set_user_attr("curves", {name: _mean([one[name] for one in curves]) for name in next(iter(curves), {})})
        if attempt.reason:
            trial.set_user_attr("reason", attempt.reason)
        state = attempt.state or TrialState.COMPLETE
        value = _mean(attempt.values) if state == TrialState.COMPLETE else None
        try:
            self.study.tell(trial, value, state=state)
        except (optuna.exceptions.UpdateFinishedTrialError, ValueError):
            if not self.study.get_trials(deepcopy=False)[trial.number].state.is_finished():
                raise
            raise UserError(
                f"stage {self.name}: trial {trial.number} has been told by someone else: two processes tune in one "
                "storage; wait for the other, then the same command goes on"
            ) from None

    def _require(self, now: dict[str, Any]) -> None:
        """Refuse a search that began as another one, and show where they differ."""
        begun = self.study.user_attrs.get("identity")
        if begun is None:
            self.study.set_user_attr("identity", now)
            return
        if changes := list(_differences(begun, now)):
            where, was, value = changes[0]
            more = f" (and {len(changes) - 1} more)" if len(changes) > 1 else ""
            raise UserError(
                f"{self._tuning.path}: stage {self.name} was begun with {where} = {was}, and now has {value}{more}; "
                "put it back, or give the tuning another name or --results to begin anew; no trial is lost"
            )

    def _identity(self) -> dict[str, Any]:
        """All that decides the trials, but their number."""
        file, entry = self._tuning.file, self.entry
        probe = self._tuning.runs(self.name, self._tuning.probe(self.name), self._found, 0)
        described = entry.model_dump(mode="json", include={"space", "assign", "objective", "prune"})
        return {
            "tuning_version": TUNING_VERSION,
            "seed": file.seed,
            "batch": file.batch,
            "sampler": file.sampler.model_dump(mode="json"),
            **described,
            "seeds": self._tuning.seeds(self.name),
            "run": json.loads(probe[0].spec.canonical_json()),
        }


class _Attempt:
    """A trial of the present batch: its runs, and what has become of them."""

    def __init__(self, trial: optuna.Trial, runs: list[PlannedRun]) -> None:
        self.trial, self.runs = trial, runs
        self.values: list[float] = []
        self.curves: list[dict[str, float]] = []
        self.state: TrialState | None = None
        self.reason = ""


def _value(directory: RunDirectory, entry: StageEntry, where: str) -> float:
    """The objective of one run."""
    import pyarrow.parquet

    objective = entry.objective
    if objective.of == "curve":
        return _curve(directory, objective.name, objective.over, where)
    rows = pyarrow.parquet.read_table(directory.returns).to_pylist()
    return _mean(
        [row["mean_return"] for row in rows if (row["protocol"], row["step"]) == (objective.protocol, objective.step)]
    )


def _curve(directory: RunDirectory, name: str, over: str, where: str = "") -> float:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(directory.curves)
    if name not in table.column_names or not table.num_rows:
        known = ", ".join(column for column in table.column_names if column != "iteration")
        raise UserError(f"{where}: meta-training has no curve {name!r}; it has {known or 'none: there was none'}")
    values = table.column(name).to_pylist()
    return _mean(values) if over == "mean" else float(values[-1])


def _means(directory: RunDirectory) -> dict[str, float]:
    """Means over meta-training of the returns that it has; without an adaptation there is one only."""
    import pyarrow.parquet

    known = pyarrow.parquet.read_table(directory.curves).column_names
    return {name: _curve(directory, name, "mean") for name in OF_TRAINING if name in known}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _reason(directory: RunDirectory, status: str) -> str:
    """Why a run that was to be executed has no end."""
    return directory.reason() if status == "failed" else "someone else works on it"


def _differences(before: Any, now: Any, at: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Places at which two JSON values differ, with what stands there."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            yield from _differences(before.get(key), now.get(key), f"{at}.{key}" if at else str(key))
    elif before != now:
        yield at, before, now
