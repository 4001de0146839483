"""Where study files are, and what stands in them over what they extend; nothing is checked yet."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path

from harness.errors import UserError, located
from harness.validation import nearest
from harness.yaml_source import Source, extend, read_yaml

OF_ONE_STUDY = ("findings", "companions")
"""What a study that extends another under a name of its own does not take over: it is about the other's results."""


def read_source(path: Path) -> Source:
    """A study file over what it extends, not checked yet.

    Folded from the oldest on, so that what a study drops is dropped from all of its ancestors.
    """
    chain, folder, seen = [read_yaml(path)], path.parent, {Path(os.path.realpath(path))}
    while "extends" in chain[-1].data:
        where, name = chain[-1].where(("extends",)), chain[-1].data.pop("extends")
        chain[-1].lines.pop(("extends",), None)
        if not isinstance(name, str):
            raise UserError(f"{where}: extends: expected the path of a study file, found {str(name)[:80]!r}")
        parent = folder / name
        if (real := Path(os.path.realpath(parent))) in seen:
            raise UserError(f"{where}: {parent} extends itself")
        seen.add(real)
        with located(where):
            base = read_yaml(parent)
        if any("study" in descendant.data for descendant in chain):
            for key in OF_ONE_STUDY:
                base.data.pop(key, None)
        chain.append(base)
        folder = parent.parent
    return functools.reduce(extend, reversed(chain))


def scales_of(path: Path) -> list[str]:
    """The scales that a study file, or what it extends, names, the oldest's first; none where it names them wrongly."""
    scales = read_source(path).data.get("scales")
    return list(scales) if isinstance(scales, dict) else []


def study_files(suites: Path) -> dict[str, Path]:
    """Every study under the suites folder by name: ``study.yaml`` goes by its folder, others by their own names."""
    found = {path.parent.name: path for path in suites.glob("*/study.yaml")}
    for path in suites.glob("*/*.yaml"):
        if path.name not in {"study.yaml", "published.yaml"}:
            found[path.stem] = path
    return dict(sorted(found.items()))


def find_study(name: str, suites: Path) -> Path:
    """A study by name or by file."""
    return find_file("study", name, study_files(suites))


def find_file(kind: str, name: str, known: Mapping[str, Path]) -> Path:
    """One of the project's files by name, or any by its path. Errors: neither."""
    if name in known:
        return known[name]
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    raise UserError(f"unknown {kind} {name!r}{nearest(name, known)}; or give the path of a .yaml file")
