"""A checked tuning file at one scale, and the runs that a trial stands for."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from harness.api import Registries
from harness.errors import UserError, located
from harness.spec import PlannedRun
from harness.study import Study
from harness.study_file import parse_seeds
from harness.study_source import find_file, read_source
from harness.tuning.schema import ChoiceEntry, StageEntry, TuningFile
from harness.validation import holds, nearest, validated
from harness.yaml_source import Location, Source, merge, read_yaml

Values = dict[str, Any]
"""Parameter of a space -> value, or place in a study -> value."""


class Tuning:
    """A tuning file at a scale, every stage checked against its study."""

    def __init__(self, path: Path, scale: str, registries: Registries) -> None:
        source = read_yaml(path)
        scales = source.data.get("scales")
        if not isinstance(scales, dict) or scale not in scales:
            known = scales if isinstance(scales, dict) else {}
            raise UserError(f"{source.where(('scales',))}: unknown scale {scale!r}{nearest(scale, known)}")
        patch = scales[scale] or {}

        def locate(place: Location) -> Location:
            return ("scales", scale, *place) if place and holds(patch, place) else place

        self._source, self._locate, self._registries = source, locate, registries
        self.path, self.scale = path, scale
        self.data = merge(source.data, patch)
        if scale != "paper" and "minutes" not in patch:  # they were measured at another size
            self.data.pop("minutes", None)
        self.file: TuningFile = validated(TuningFile, self.data, source, locate)
        with located(source.where(("study",))):
            self._study = read_source(path.parent / self.file.study)
        self._base = self._bare_study()
        for name in self.file.stages:
            for point in self._ends(name):  # refuse a bad stage now, not after the stages before it
                self.runs(name, point, {}, 0, self.seeds(name)[:1])

    @property
    def stem(self) -> str:
        """What its files are called: another scale than the paper's never replaces a result."""
        return self.file.tuning if self.scale == "paper" else f"{self.file.tuning}_{self.scale}"

    def seeds(self, stage: str) -> list[int]:
        """Training seeds of a stage's trials."""
        return parse_seeds(self.file.stages[stage].seeds, self.where(stage, "seeds"))

    def probe(self, stage: str) -> Values:
        """One point of the space: the lower end, or the first choice, of everything."""
        return self._ends(stage)[0]

    def _ends(self, stage: str) -> list[Values]:
        """Points at which every parameter has each of its ends, or of its choices, at least once."""
        ends = {
            name: list(entry.choices) if isinstance(entry, ChoiceEntry) else [entry.low, entry.high]
            for name, entry in self.file.stages[stage].space.items()
        }
        most = max(len(values) for values in ends.values())
        return [{name: values[min(index, len(values) - 1)] for name, values in ends.items()} for index in range(most)]

    def where(self, stage: str, key: str) -> str:
        """File and line of a key of a stage."""
        return self._source.where(self._locate(("stages", stage, key)))

    def assigned(self, stage: str, values: Values) -> Values:
        """Parameters as places in the study: products are multiplied out."""
        places: Values = {}
        for place, names in self.file.stages[stage].factors.items():
            factors = [values[name] for name in names]
            places[place] = factors[0] if len(factors) == 1 else math.prod(factors)
        return places

    def runs(
        self, stage: str, values: Values, found: Values, trial: int, seeds: list[int] | None = None
    ) -> list[PlannedRun]:
        """The runs of one trial, a run for each seed, by default the stage's.

        ``found``: what earlier stages assigned, by place in the study.
        """
        entry = self.file.stages[stage]
        source = self._with(self._base, stage, "changes", entry.changes, ())
        for place, value in {**found, **self.assigned(stage, values)}.items():
            keys = tuple(place.split("."))
            source = self._with(source, stage, "assign", _nested(keys, value), (place,))
        study = Study(source, self.scale, self._registries)
        if entry.method not in study.file.methods:
            hint = nearest(entry.method, study.file.methods)
            raise UserError(f"{self.where(stage, 'method')}: the study has no method {entry.method!r}{hint}")
        self._require_objective(stage, entry, study)
        planned = [
            run for run in study.plan(self.seeds(stage) if seeds is None else seeds) if run.method == entry.method
        ]
        label = f"{stage}_t{trial:03d}"
        return [run.model_copy(update={"setting": label, "scale": self.scale}) for run in planned]

    def _require_objective(self, stage: str, entry: StageEntry, study: Study) -> None:
        if entry.objective.of != "meta_test":
            return
        protocols = study.file.evaluation.protocols
        where = self.where(stage, "objective")
        if entry.objective.protocol not in protocols:
            hint = nearest(entry.objective.protocol, protocols)
            raise UserError(f"{where}: the meta-test has no protocol {entry.objective.protocol!r}{hint}")
        if entry.objective.step > (updates := protocols[entry.objective.protocol].updates):
            raise UserError(f"{where}: objective.step is {entry.objective.step}, but there are {updates} updates")

    def _bare_study(self) -> Source:
        """The study at its own scale, as one body without scales, under the tuning's name."""
        data, scale = self._study.data, self.file.study_scale
        scales = data.get("scales")
        if not isinstance(scales, dict) or scale not in scales:
            where = self._source.where(("study_scale",) if "study_scale" in self.data else ("study",))
            known = scales if isinstance(scales, dict) else {}
            raise UserError(f"{where}: the study has no scale {scale!r}{nearest(scale, known)}")
        Study(self._study, scale, self._registries)  # in order by itself, before anything of it is changed
        body = merge(data, scales[scale] or {}) | {"study": self.file.tuning, "scales": {self.scale: {}}}
        grid, setting = body.pop("grid", None), self.file.setting
        if (grid is None) != (setting is None) or (setting is not None and setting not in grid):
            where = self._source.where(("setting",) if "setting" in self.data else ("study",))
            raise UserError(
                f"{where}: setting: expected one of the study's grid, found {setting!r}{nearest(setting, grid or {})}"
            )
        if grid is not None:
            body = merge(body, {key: value for key, value in grid[setting].items() if key != "columns"})
            body["setting"] = setting
        for key in ("companions", "findings", "deviations"):
            body.pop(key, None)
        return Source(self._study.path, body, dict(self._study.lines))

    def _with(self, source: Source, stage: str, section: str, patch: dict[str, Any], at: Location) -> Source:
        """The study with a patch of a stage; an error in it points at the line of the tuning file."""
        lines = dict(source.lines)
        for path in _paths(patch):
            place = ("stages", stage, section, *(at or path))
            found = self._source.lines.get(self._locate(place))
            if found is not None:
                lines[path] = found
        return Source(source.path, merge(source.data, patch), lines)


def _nested(keys: tuple[str, ...], value: Any) -> Any:
    """``("a", "b"), 1`` -> ``{"a": {"b": 1}}``."""
    return value if not keys else {keys[0]: _nested(keys[1:], value)}


def _paths(block: Any, at: Location = ()) -> list[Location]:
    """The place of everything in nested mappings."""
    below = (
        [path for key, value in block.items() for path in _paths(value, (*at, key))] if isinstance(block, dict) else []
    )
    return [at, *below] if at else below


def tuning_files(suites: Path) -> dict[str, Path]:
    """Every tuning file of the project by name."""
    return {path.stem: path for path in sorted(suites.glob("*/tuning/*.yaml"))}


def find_tuning(name: str, suites: Path) -> Path:
    """A tuning by name or by file."""
    return find_file("tuning", name, tuning_files(suites))
