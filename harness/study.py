"""A study: every value of its file checked, and expanded into runs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from harness.api import Declaration, Registries
from harness.errors import UserError, located
from harness.extensions import Kind, OwnFiles, guarding
from harness.spec import Budget, Component, Evaluation, PlannedRun, Protocol, Resources, RunSpec
from harness.study_file import MOST_RUNS, ProtocolEntry, StudyFile, parse_seeds
from harness.study_source import read_source
from harness.validation import holds, nearest, validated
from harness.yaml_source import Location, Source, compose, merge


class Layer(NamedTuple):
    """A block of settings and its place in the file."""

    place: Location
    block: dict[str, Any]


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
        patch = {} if scales[scale] is None else scales[scale]
        if not isinstance(patch, dict):
            where = source.where(("scales", scale))
            raise UserError(f"{where}: scales.{scale}: expected a mapping, found {str(patch)[:80]!r}")

        def locate(path: Location) -> Location:
            """Where a value came from: the scale's patch, if it has the key, or the body of the file."""
            return ("scales", scale, *path) if path and holds(patch, path) else path

        patch = _of_what_is_there(patch, source.data)
        data = _with_grid_patches(merge(source.data, patch), source.data, patch)
        if scale != "paper":  # what was found, and how long it took, holds at the size at which it was measured
            data = {key: value for key, value in data.items() if key in patch or key not in ("findings", "minutes")}
        self.file: StudyFile = validated(StudyFile, data, source, locate)
        self._seeds_at = source.where(locate(("seeds",)))
        self.seeds = parse_seeds(self.file.seeds, self._seeds_at)
        self._own_files = OwnFiles()
        self._cells = [
            _Cell(name, self._cell_source(source, data, name, locate), registries, self._own_files)
            for name in self.file.settings_and_columns()
        ]
        self.plan(self.seeds[:1])  # refuse a bad setting now, not in the middle of the grid

    def _cell_source(self, source: Source, data: dict[str, Any], name: str, locate: Any) -> Any:
        """The study's data with one setting's changes, and where each value came from."""
        if self.file.setting is not None:
            return source, data, locate
        entry = data["grid"][name]
        patch = {key: value for key, value in entry.items() if key != "columns"}
        patch = _of_what_is_there(patch, data)

        def in_cell(path: Location) -> Location:
            return locate(("grid", name, *path) if path and holds(patch, path) else path)

        return source, merge(data, patch), in_cell

    def plan(self, seeds: Iterable[int] | None = None) -> list[PlannedRun]:
        """All runs: ordered by seed, then by setting and method as they stand in the file."""
        asked = list(self.seeds if seeds is None else seeds)
        own = {seed for cell in self._cells for entry in cell.own_seeds.values() for seed in entry}
        count = sum(len(cell.own_seeds.get(label, asked)) for cell in self._cells for label in cell.file.methods)
        if count > MOST_RUNS:
            raise UserError(f"{self._seeds_at}: the study stands for {count} runs; at most {MOST_RUNS} can be planned")
        seen: dict[str, PlannedRun] = {}
        for seed in sorted({*asked, *own}):
            for cell in self._cells:
                for label in cell.file.methods:
                    if seed in cell.own_seeds.get(label, asked):
                        run = self._planned(cell, label, seed)
                        if (twin := seen.setdefault(run.spec.run_id, run)) is not run:
                            raise UserError(
                                f"{cell.where(label)}: methods {twin.method!r} and {label!r} are the same run"
                                f"{'' if twin.setting == cell.name else f' (in {twin.setting} and {cell.name})'}"
                                "; leave one out"
                            )
        return list(seen.values())

    def lacking(self) -> str:
        """A package that its runs need and this machine lacks; see :meth:`harness.api.Declaration.lacking`."""
        return next((found for cell in self._cells if (found := cell.suite().lacking())), "")

    def provides(self) -> frozenset[str]:
        """What the suite of each of its settings has that not every suite has."""
        return frozenset.intersection(*(cell.suite().provides for cell in self._cells))

    def _planned(self, cell: _Cell, label: str, seed: int) -> PlannedRun:
        spec = cell.spec(label, seed)
        return PlannedRun(
            study=self.file.study,
            setting=cell.name,
            scale=self.scale,
            method=label,
            spec=spec,
            files=self._own_files.of(spec),
            resources=cell.resources(label),
        )


def _of_what_is_there(patch: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """A patch without its changes of methods and settings that the study has dropped: it would bring them back."""

    def kept(section: str, changes: Any) -> Any:
        there = data.get(section)
        if section not in ("methods", "grid") or not isinstance(changes, dict) or not isinstance(there, dict):
            return changes
        whole = "algorithm" if section == "methods" else "columns"
        return {
            name: change
            for name, change in changes.items()
            if name in there or (isinstance(change, dict) and whole in change)
        }

    return {section: kept(section, changes) for section, changes in patch.items()}


def _with_grid_patches(merged: dict[str, Any], data: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """The merged data, whose settings also drop what the scale drops for one of them and only the study has."""
    ours, theirs, grid = data.get("grid"), patch.get("grid"), merged.get("grid")
    if not (isinstance(ours, dict) and isinstance(theirs, dict) and isinstance(grid, dict)):
        return merged
    both = {name: compose(ours[name], theirs[name]) for name in grid if name in ours and name in theirs}
    return merged | {"grid": grid | both}


class _Cell:
    """One setting of a study: its file as it stands with the setting's changes, and the specs that follow."""

    def __init__(
        self, name: str, source: tuple[Source, dict[str, Any], Any], registries: Registries, own_files: OwnFiles
    ) -> None:
        self.name = name
        self._source, data, self._locate = source
        self._registries = registries
        self._own_files = own_files
        self._specs: dict[str, RunSpec] = {}
        self.file: StudyFile = validated(StudyFile, data, self._source, self._locate)
        self.own_seeds = {
            label: parse_seeds(entry.seeds, self._where(("methods", label, "seeds")))
            for label, entry in self.file.methods.items()
            if entry.seeds is not None
        }

    def where(self, label: str) -> str:
        """File and line of a method."""
        return self._where(("methods", label))

    def spec(self, label: str, seed: int) -> RunSpec:
        """The run of one method and seed; seeds differ in nothing else, so that values are checked once."""
        if label not in self._specs:
            self._specs[label] = self._spec(label, seed)
        return self._specs[label].model_copy(update={"seed": seed})

    def suite(self) -> Declaration:
        """The declaration of its suite."""
        return self._declared("suite", self.file.suite, ("suite",), self.file.suite_module, ("suite_module",))

    def resources(self, label: str) -> Resources:
        """What the runs of a method need of a machine."""
        of_study = Layer(("resources",), self.file.resources.model_dump(exclude_unset=True))
        of_method = Layer(("methods", label, "resources"), self.file.methods[label].resources)
        resources: Resources = self._layered(Resources, [of_study, of_method])
        return resources

    def _spec(self, label: str, seed: int) -> RunSpec:
        file, entry = self.file, self.file.methods[label]
        method: Location = ("methods", label)
        budget = self._layered(
            Budget, [Layer(("budget",), file.budget.model_dump()), Layer((*method, "budget"), entry.budget)]
        )
        suite_layers = [Layer(("settings",), file.settings), Layer((*method, "settings"), entry.settings)]
        suite, algorithm = self.suite(), self._algorithm(label)
        if lacking := sorted(algorithm.requires - suite.provides):
            where = self._where((*method, "algorithm"))
            raise UserError(f"{where}: algorithm {algorithm.name!r} needs {lacking[0]}, suite {suite.name!r} has none")
        protocols = {name: self._protocol(name, file.evaluation.protocols[name]) for name in self._protocols_of(label)}
        evaluation = Evaluation(**file.evaluation.model_dump(exclude={"protocols"}), protocols=protocols)
        rounds = max(protocol.updates for protocol in protocols.values()) + 1
        context = {
            "updates": budget.meta_iterations,
            "episodes": max(budget.episodes_per_task, rounds * evaluation.episodes_per_task),
            "provides": suite.provides,
            "steps": [name for name, protocol in protocols.items() if protocol.steps_per_task is not None],
        }
        method_layers = [
            Layer(("hyperparameters",), self._shared_hyperparameters(algorithm)),
            Layer((*method, "hyperparameters"), entry.hyperparameters),
        ]
        return RunSpec(
            suite=self._component(suite, suite_layers, {}),
            algorithm=self._component(algorithm, method_layers, context),
            seed=seed,
            budget=budget,
            evaluation=evaluation,
        )

    def _protocols_of(self, label: str) -> list[str]:
        known, asked = self.file.evaluation.protocols, self.file.methods[label].protocols
        for index, name in enumerate(asked or []):
            if name not in known:
                where = self._where(("methods", label, "protocols", index))
                raise UserError(f"{where}: methods.{label}.protocols: unknown protocol {name!r}{nearest(name, known)}")
        return list(known if asked is None else dict.fromkeys(asked))

    def _shared_hyperparameters(self, algorithm: Declaration) -> dict[str, Any]:
        """The study's hyperparameters, of which a method takes those that it has; every key must be some method's."""
        known = {key for label in self.file.methods for key in self._algorithm(label).settings.model_fields}
        mine = algorithm.settings.model_fields
        return {key: value for key, value in self.file.hyperparameters.items() if key in mine or key not in known}

    def _algorithm(self, label: str) -> Declaration:
        entry, method = self.file.methods[label], ("methods", label)
        return self._declared("algorithm", entry.algorithm, (*method, "algorithm"), entry.module, (*method, "module"))

    def _declared(
        self, kind: Kind, name: str, name_at: Location, module: str | None, module_at: Location
    ) -> Declaration:
        """The declaration of a name: from the file that stands beside it, or from the registry."""
        registry = self._registries.suites if kind == "suite" else self._registries.algorithms
        if module is not None:
            folder = self._source.folder(self._locate(module_at))
            with located(self._where(module_at)):
                return self._own_files.declaration(kind, name, folder, module, registry)
        with located(self._where(name_at)):
            if name not in registry:
                raise UserError(f"unknown {kind} {name!r}{nearest(name, registry)}")
            return registry[name]

    def _component(self, declaration: Declaration, layers: list[Layer], context: dict[str, Any]) -> Component:
        with guarding(declaration):
            settings = self._layered(declaration.settings, layers, context).model_dump(mode="json")
        return Component(
            name=declaration.name, version=declaration.version, settings=settings, origin=declaration.origin
        )

    def _protocol(self, name: str, entry: ProtocolEntry) -> Protocol:
        location: Location = ("evaluation", "protocols", name)
        if entry.rule not in self._registries.rules:
            known = self._registries.rules
            raise UserError(
                f"{self._where((*location, 'rule'))}: unknown rule {entry.rule!r}{nearest(entry.rule, known)}"
            )
        layers = [Layer((*location, "settings"), entry.settings)]
        settings = self._layered(self._registries.rules[entry.rule], layers, {"updates": entry.updates})
        data = entry.model_dump(exclude={"description", "settings"})
        return Protocol(**data, settings=settings.model_dump(mode="json"))

    def _layered(self, schema: type[BaseModel], layers: list[Layer], context: dict[str, Any] | None = None) -> Any:
        """Merge blocks from the general to the particular; an error points at the block that brought the value.

        ``context`` is what settings may check themselves against: the number of ``updates`` that they will serve, the
        ``episodes`` that one task can have, the protocols that count ``steps``, and what the suite ``provides``.
        """
        merged: Any = {}
        for layer in layers:
            merged = merge(merged, layer.block)

        def locate(path: Location) -> Location:
            holders = [layer.place for layer in layers if path and holds(layer.block, path)]
            return self._locate((*(holders[-1] if holders else layers[0].place), *path))

        return validated(schema, merged, self._source, locate, context)

    def _where(self, location: Location) -> str:
        return self._source.where(self._locate(location))


def read_study(path: Path, scale: str, registries: Registries) -> Study:
    """Read a study file and what it extends, check every value, and bind it to a scale.

    Errors (:class:`UserError`, one line with file and line): not YAML, an unknown key, a wrong type, an impossible
    value, an unknown suite, algorithm, rule or scale, a circle of ``extends``.
    """
    return Study(read_source(path), scale, registries)
