"""What a run is called in the store: its name, tags and parameters."""

from __future__ import annotations

from typing import Any

from harness.spec import PlannedRun


def flatten(data: Any, prefix: str = "") -> dict[str, str]:
    """Nested settings as ``a.b.c`` -> text."""
    if not isinstance(data, dict):
        return {prefix: str(data)}
    flat: dict[str, str] = {}
    for key, value in data.items():
        flat |= flatten(value, f"{prefix}.{key}" if prefix else key)
    return flat


def tags_of(planned: PlannedRun, provenance: dict[str, Any]) -> dict[str, str]:
    """The tags of a run's record: what a reader of the store filters by."""
    spec = planned.spec
    parts = {"suite": spec.suite.origin, "algorithm": spec.algorithm.origin}
    return {
        "kind": "run",
        "status": "running",
        "run_id": spec.run_id,
        "study": planned.study,
        "setting": planned.setting,
        "scale": planned.scale,
        "method": planned.method,
        "suite": spec.suite.name,
        "suite_version": str(spec.suite.version),
        "algorithm": spec.algorithm.name,
        "algorithm_version": str(spec.algorithm.version),
        "seed": str(spec.seed),
        "code_version": str(provenance["code_version"]),
        "dirty": str(provenance["dirty"]).lower(),
        "device": str(provenance.get("device", "cpu")),
        **{f"{part}_origin": origin for part, origin in parts.items() if origin is not None},
    }


def name_of(planned: PlannedRun) -> str:
    """The name of a run's record, which says its scale unless that is the paper's."""
    return planned.title + ("" if planned.scale == "paper" else f" ({planned.scale})")
