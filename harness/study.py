"""Study files: reading, checking, and expanding them into runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field

from harness.api import Registries, Settings
from harness.errors import UserError
from harness.spec import Budget, Component, Count, Evaluation, Name, PlannedRun, Protocol, RunSpec
from harness.validation import holds, nearest, validated
from harness.yaml_source import Location, Source, extend, merge, read_yaml


def _seed_text(value: Any) -> str:
    if type(value) not in (int, str):
        raise ValueError('seeds are text such as "0-4" or "0,2,7"')
    return str(value)


SeedText = Annotated[str, BeforeValidator(_seed_text)]


class MethodEntry(Settings):
    """One method of a study: an algorithm, and where it differs from what the study says for all."""

    algorithm: str
    description: str = ""
    settings: dict[str, Any] = Field(default_factory=dict)
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    budget: dict[str, Any] = Field(default_factory=dict)


class ProtocolEntry(Settings):
    """A meta-test protocol as a study file writes it."""

    rule: str
    updates: Annotated[int, Field(ge=0)]
    description: str = ""
    settings: dict[str, Any] = Field(default_factory=dict)


class EvaluationEntry(Settings):
    """The meta-test as a study file writes it."""

    seed: Annotated[int, Field(ge=0, lt=2**31)]
    meta_test_tasks: Count
    episodes_per_task: Count
    shared_noise: bool
    protocols: Annotated[dict[Name, ProtocolEntry], Field(min_length=1)]


class Deviation(Settings):
    """A point on which report and released code differ, and what the study does about it."""

    topic: str
    report: str
    code: str
    here: str


class StudyFile(Settings):
    """The schema of a study file."""

    study: Name
    title: str
    paper: str
    setting: Name
    suite: str
    extends: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    methods: Annotated[dict[Name, MethodEntry], Field(min_length=1)]
    budget: Budget
    evaluation: EvaluationEntry
    seeds: SeedText
    checkpoint_every: Count = 25
    """Meta-iterations between checkpoints; does not change any number."""
    minutes: Annotated[float, Field(gt=0)] | None = None
    """Measured CPU minutes of the whole study as written, for the first estimate of how long it will take."""
    deviations: list[Deviation] = Field(default_factory=list)
    scales: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]


class Study:
    """A checked study at one scale."""

    def __init__(self, source: Source, scale: str, registries: Registries) -> None:
        scales = source.data.get("scales")
        if not isinstance(scales, dict) or not scales:
            raise UserError(f"{source.where(('scales',))}: 'scales' must name at least one scale, such as paper: {{}}")
        if scale not in scales:
            raise UserError(f"{source.where(('scales',))}: unknown scale {scale!r}{nearest(scale, scales)}")
        self.scale = scale
        self.path = source.path
        self._source = source
        self._registries = registries
        self._patch = {} if scales[scale] is None else scales[scale]
        if not isinstance(self._patch, dict):
            where = source.where(("scales", scale))
            raise UserError(f"{where}: scales.{scale}: expected a mapping, found {str(self._patch)[:80]!r}")
        self.file = validated(StudyFile, merge(source.data, self._patch), source, self._patch_location)
        self.seeds = parse_seeds(self.file.seeds, self._where(("seeds",)))
        self._runs_of_seed(self.seeds[0])  # refuse a bad setting now, not in the middle of the grid

    def plan(self, seeds: Iterable[int] | None = None) -> list[PlannedRun]:
        """All runs, ordered by seed and then as the methods stand in the file."""
        return [run for seed in (self.seeds if seeds is None else seeds) for run in self._runs_of_seed(seed)]

    def _runs_of_seed(self, seed: int) -> list[PlannedRun]:
        file = self.file
        labels: dict[str, tuple[str, RunSpec]] = {}
        for label in file.methods:
            spec = self._spec(label, seed)
            if (twin := labels.setdefault(spec.run_id, (label, spec))[0]) != label:
                where = self._where(("methods", label))
                raise UserError(f"{where}: methods {twin!r} and {label!r} are the same run; leave one out")
        return [
            PlannedRun(study=file.study, setting=file.setting, scale=self.scale, method=label, spec=spec)
            for label, spec in labels.values()
        ]

    def _spec(self, label: str, seed: int) -> RunSpec:
        file, entry = self.file, self.file.methods[label]
        method: Location = ("methods", label)
        budget = self._layered(Budget, [(("budget",), file.budget.model_dump()), ((*method, "budget"), entry.budget)])
        suite = self._component(
            "suite", self._registries.suites, file.suite, ("suite",),
            [(("settings",), file.settings), ((*method, "settings"), entry.settings)],
        )  # fmt: skip
        algorithm = self._component(
            "algorithm", self._registries.algorithms, entry.algorithm, (*method, "algorithm"),
            [(("hyperparameters",), file.hyperparameters), ((*method, "hyperparameters"), entry.hyperparameters)],
            updates=budget.meta_iterations,
        )  # fmt: skip
        protocols = {name: self._protocol(name, protocol) for name, protocol in file.evaluation.protocols.items()}
        evaluation = Evaluation(**file.evaluation.model_dump(exclude={"protocols"}), protocols=protocols)
        return RunSpec(suite=suite, algorithm=algorithm, seed=seed, budget=budget, evaluation=evaluation)

    def _component(
        self,
        kind: str,
        registry: Mapping[str, Any],
        name: str,
        location: Location,
        layers: list[tuple[Location, dict[str, Any]]],
        updates: int = 0,
    ) -> Component:
        if name not in registry:
            raise UserError(f"{self._where(location)}: unknown {kind} {name!r}{nearest(name, registry)}")
        declaration = registry[name]
        settings = self._layered(declaration.settings, layers, updates)
        return Component(name=name, version=declaration.version, settings=settings.model_dump(mode="json"))

    def _protocol(self, name: str, entry: ProtocolEntry) -> Protocol:
        location: Location = ("evaluation", "protocols", name)
        if entry.rule not in self._registries.rules:
            known = self._registries.rules
            raise UserError(
                f"{self._where((*location, 'rule'))}: unknown rule {entry.rule!r}{nearest(entry.rule, known)}"
            )
        layers = [((*location, "settings"), entry.settings)]
        settings = self._layered(self._registries.rules[entry.rule], layers, entry.updates)
        return Protocol(rule=entry.rule, updates=entry.updates, settings=settings.model_dump(mode="json"))

    def _layered(self, schema: type[BaseModel], layers: list[tuple[Location, dict[str, Any]]], updates: int = 0) -> Any:
        """Merge blocks from the general to the particular; an error points at the block that brought the value.

        ``updates``: how many the settings will serve; settings may check themselves against it (validation context).
        """
        merged: Any = {}
        for _, block in layers:
            merged = merge(merged, block)

        def locate(path: Location) -> Location:
            holders = [place for place, block in layers if path and holds(block, path)]
            return (*(holders[-1] if holders else layers[0][0]), *path)

        return validated(
            schema, merged, self._source, lambda path: self._patch_location(locate(path)), {"updates": updates}
        )

    def _patch_location(self, location: Location) -> Location:
        """Where a value came from: the scale's patch, if it has the key, or the body of the file."""
        return ("scales", self.scale, *location) if location and holds(self._patch, location) else location

    def _where(self, location: Location) -> str:
        return self._source.where(self._patch_location(location))


def read_study(path: Path, scale: str, registries: Registries) -> Study:
    """Read a study file and what it extends, check every value, and bind it to a scale.

    Errors (:class:`UserError`, one line with file and line): not YAML, an unknown key, a wrong type, an impossible
    value, an unknown suite, algorithm, rule or scale, a circle of ``extends``.
    """
    source, folder, seen = read_yaml(path), path.parent, {path.resolve()}
    while "extends" in source.data:
        where, name = source.where(("extends",)), source.data.pop("extends")
        source.lines.pop(("extends",), None)  # so that a grandparent's error points at the parent's line
        if not isinstance(name, str) or "\0" in name:
            raise UserError(f"{where}: extends: expected the path of a study file, found {str(name)[:80]!r}")
        parent = folder / name
        if parent.resolve() in seen:
            raise UserError(f"{where}: {parent} extends itself")
        if not parent.exists():
            raise UserError(f"{where}: {parent} does not exist")
        seen.add(parent.resolve())
        source, folder = extend(read_yaml(parent), source), parent.parent
    return Study(source, scale, registries)


def study_files(suites: Path) -> dict[str, Path]:
    """Every study under the suites folder by name: ``study.yaml`` goes by its folder, others by their own names."""
    found = {path.parent.name: path for path in suites.glob("*/study.yaml")}
    for path in suites.glob("*/*.yaml"):
        if path.name not in {"study.yaml", "published.yaml"}:
            found[path.stem] = path
    return dict(sorted(found.items()))


def find_study(name: str, suites: Path) -> Path:
    """A study by name or by file."""
    known = study_files(suites)
    if name in known:
        return known[name]
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    raise UserError(f"unknown study {name!r}{nearest(name, known)}; or give the path of a .yaml file")


def parse_seeds(text: str, where: str = "--seeds") -> list[int]:
    """``"0-4"`` or ``"0,2,7"`` or both mixed, to a sorted list without repeats."""
    seeds: set[int] = set()
    for part in text.split(","):
        if len(part.strip()) > 25:
            raise UserError(f"{where}: {part.strip()[:25]!r}... is too long; write 0-4 or 0,2,7")
        low, dash, high = part.strip().partition("-")
        if not (low.isdecimal() and (high.isdecimal() if dash else True)) or (dash and int(low) > int(high)):
            raise UserError(f"{where}: {text!r} is not a list of seeds; write 0-4 or 0,2,7")
        last = int(high) if dash else int(low)
        if last >= 2**31 or last - int(low) >= 100_000:
            raise UserError(f"{where}: {part.strip()!r} is too large; seeds are below 2^31, at most 100000 at once")
        seeds.update(range(int(low), last + 1))
    return sorted(seeds)
