"""The file of an audit of meta-gradient estimators: its schema, its checks, and the cells that it expands into."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator

from harness.api import Declaration, Registries, Settings
from harness.errors import UserError
from harness.spec import Count, Name
from harness.validation import holds, nearest, validated
from harness.yaml_source import Location, merge, read_yaml

AUDIT_VERSION = 1
"""Goes up whenever a change of the audit itself moves numbers: cells of older versions are then measured again."""
MOST_MDPS = 10_000
"""Cells are planned, and exact gradients kept, for all of them at once."""
CAPABILITY = "tables to plan on"
FIXED = {"discount": 1.0, "gae_lambda": 1.0, "standardise_advantages": False, "adaptation_steps": 1}
"""The exact meta-gradient is that of the undiscounted return after one step of its own gradient."""
VARIED = {"inner_lr": "inner_lrs", "baseline": "baselines"}
Rate = Annotated[float, Field(gt=0)]
Quantity = Literal["curvature", "meta_gradient"]


class EstimatorEntry(Settings):
    """One estimator: a composition of the method, and which of the quantities it has."""

    description: str = ""
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    through_adaptation: bool = True
    """Off: the gradient at the adapted parameters, taken as if they were the meta-parameters."""
    quantities: Annotated[tuple[Quantity, ...], Field(strict=False, min_length=1)] = ("curvature", "meta_gradient")
    samples_of: Name | None = None
    """An estimator whose samples are the same numbers, so that they are prepared once."""


class StageEntry(Settings):
    """A policy on the way of exact gradient ascent; see :class:`harness.audit_truth.Truths`."""

    description: str = ""
    objective: Literal["return", "adapted_return"] = "return"
    progress: Annotated[float, Field(ge=0, lt=1)]


class AuditFile(Settings):
    """The schema. ``episodes``: number of episodes per estimate -> number of independent estimates."""

    audit: Name
    title: str
    suite: str
    settings: dict[str, Any] = Field(default_factory=dict)
    algorithm: str
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    estimators: Annotated[dict[Name, EstimatorEntry], Field(min_length=1)]
    stages: Annotated[dict[Name, StageEntry], Field(min_length=1)]
    inner_lrs: Annotated[tuple[Rate, ...], Field(strict=False, min_length=1)]
    baselines: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
    episodes: Annotated[dict[Count, Annotated[int, Field(ge=4)]], Field(min_length=1)]
    mdps: Annotated[int, Field(ge=1, le=MOST_MDPS)]
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    minutes: Annotated[float, Field(gt=0)] | None = None
    """Measured CPU minutes of the whole audit as written."""
    findings: list[str] = Field(default_factory=list)
    """What the results say, a paragraph each; the page shows them above its tables."""
    scales: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]

    @model_validator(mode="after")
    def _samples_of_those_who_have_them(self) -> AuditFile:
        for name, entry in self.estimators.items():
            owner = self.estimators.get(entry.samples_of or name)
            if owner is None or (owner.samples_of is not None and entry.samples_of is not None):
                raise ValueError(f"estimators: {name}: {entry.samples_of!r} is no estimator with samples of its own")
        return self


class Cell(NamedTuple):
    """One measurement: every estimator and quantity on the same data."""

    stage: str
    mdp: int
    inner_lr: float
    baseline: str
    episodes: int
    batches: int


class Audit:
    """A checked audit at one scale.

    ``learners``: (inner_lr, baseline, estimator) -> the settings of its learner.
    """

    def __init__(self, path: Path, scale: str, registries: Registries) -> None:
        self._source = read_yaml(path)
        self.scale = scale
        patch = self._patch(scale)

        def locate(place: Location) -> Location:
            return ("scales", scale, *place) if place and holds(patch, place) else place

        self._locate = locate
        data = merge(self._source.data, patch)
        if scale != "paper" and "minutes" not in patch:  # they were measured at another size
            data.pop("minutes", None)
        self.file: AuditFile = validated(AuditFile, data, self._source, locate)
        self.suite = self._declared("suite", self.file.suite, registries.suites)
        self.algorithm = self._declared("algorithm", self.file.algorithm, registries.algorithms)
        if CAPABILITY not in self.suite.provides:
            raise UserError(f"{self._at(('suite',))}: an audit needs {CAPABILITY}; suite {self.suite.name!r} has none")
        self.suite_settings = self._checked(self.suite.settings, self.file.settings, lambda key: ("settings", *key))
        self.learners: dict[tuple[float, str, str], Settings] = {
            (inner_lr, baseline, name): self._learner(name, {"inner_lr": inner_lr, "baseline": baseline})
            for inner_lr in self.file.inner_lrs
            for baseline in self.file.baselines
            for name in self.file.estimators
        }

    @property
    def stem(self) -> str:
        """What its files are called: another scale than the paper's never replaces a result."""
        return self.file.audit if self.scale == "paper" else f"{self.file.audit}_{self.scale}"

    def cells(self) -> list[Cell]:
        """All measurements, cheap ones first within a stage."""
        file = self.file
        return [
            Cell(stage, mdp, inner_lr, baseline, episodes, batches)
            for stage in file.stages
            for inner_lr in file.inner_lrs
            for baseline in file.baselines
            for episodes, batches in sorted(file.episodes.items())
            for mdp in range(file.mdps)
        ]

    def shown(self) -> dict[str, Any]:
        """What a page says of the audit: title, what every estimator and stage is, and what the results at paper scale
        say.
        """
        estimators = {name: entry.description for name, entry in self.file.estimators.items()}
        stages = {name: entry.description for name, entry in self.file.stages.items()}
        findings = self.file.findings if self.scale == "paper" else []
        return {"title": self.file.title, "descriptions": estimators | stages, "findings": findings}

    def key(self, cell: Cell) -> str:
        """Hash of everything that decides the numbers of a cell."""
        file = self.file
        estimators = {
            name: {
                "settings": self.learners[cell.inner_lr, cell.baseline, name].model_dump(mode="json"),
                "entry": entry.model_dump(mode="json", exclude={"description", "hyperparameters"}),
            }
            for name, entry in file.estimators.items()
        }
        decides = {
            "audit": AUDIT_VERSION,
            "suite": [self.suite.name, self.suite.version, self.suite_settings.model_dump(mode="json")],
            "algorithm": [self.algorithm.name, self.algorithm.version],
            "estimators": estimators,
            "stage": file.stages[cell.stage].model_dump(mode="json", exclude={"description"}),
            "mdps": file.mdps,
            "seed": file.seed,
            "cell": cell._asdict(),
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]

    def _patch(self, scale: str) -> dict[str, Any]:
        scales = self._source.data.get("scales")
        where = self._source.where(("scales",))
        if not isinstance(scales, dict) or not scales:
            raise UserError(f"{where}: 'scales' must name at least one scale, such as paper: {{}}")
        if scale not in scales:
            raise UserError(f"{where}: unknown scale {scale!r}{nearest(scale, scales)}")
        patch = {} if scales[scale] is None else scales[scale]
        if not isinstance(patch, dict):
            where = self._source.where(("scales", scale))
            raise UserError(f"{where}: scales.{scale}: expected a mapping, found {str(patch)[:80]!r}")
        return patch

    def _declared(self, kind: str, name: str, registry: Mapping[str, Declaration]) -> Declaration:
        if name not in registry:
            raise UserError(f"{self._at((kind,))}: unknown {kind} {name!r}{nearest(name, registry)}")
        return registry[name]

    def _learner(self, name: str, varied: dict[str, Any]) -> Settings:
        own: Location = ("estimators", name, "hyperparameters")
        layers = {("hyperparameters",): self.file.hyperparameters, own: self.file.estimators[name].hyperparameters}

        def locate(key: Location) -> Location:
            if key and key[0] in VARIED:
                return (VARIED[str(key[0])],)
            return (*(own if key and holds(layers[own], key) else ("hyperparameters",)), *key)

        for place, block in layers.items():
            for key in sorted(VARIED.keys() & block.keys()):
                raise UserError(f"{self._at((*place, key))}: {key} is varied by {VARIED[key]}; leave it out here")
        settings = self._checked(self.algorithm.settings, merge(*layers.values()) | varied, locate)
        for key, value in FIXED.items():
            if (found := getattr(settings, key, value)) != value:
                at = self._at(locate((key,)))
                raise UserError(f"{at}: {key} must be {value}, as the exact meta-gradient has it, found {found}")
        return settings

    def _checked(self, schema: type[Settings], block: dict[str, Any], place: Any) -> Any:
        context = {"updates": 0, "provides": self.suite.provides}
        return validated(schema, block, self._source, lambda key: self._locate(place(key)), context)

    def _at(self, location: Location) -> str:
        return self._source.where(self._locate(location))
