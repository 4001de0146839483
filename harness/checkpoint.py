"""Checkpoints: safetensors and JSON, written atomically, checked by checksum, never unpickled."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from harness.api import Settings
from harness.errors import UserError
from harness.files import discard, read_json, sha256, write_atomic, write_json

Groups = dict[str, dict[str, Tensor]]
Misfit = Callable[[Groups, dict[str, Any]], str]
"""Why a checkpoint that is whole is none of the training that asks for it; empty where it is one."""
KEPT = 2
"""Checkpoints that stay: the newest, and one to fall back on."""


def save_checkpoint(folder: Path, iteration: int, groups: Groups, info: dict[str, Any]) -> Path:
    """Write ``<iteration>.safetensors`` and, last, ``<iteration>.json`` with its checksum.

    ``groups``: named dictionaries of tensors (parameters, optimiser, generators, curves).
    ``info``: plain values kept beside them.
    """
    # safetensors wants contiguous tensors that share no memory; on the CPU, so that any machine can go on with them.
    tensors = {
        f"{group}:{name}": tensor.detach().cpu().clone().contiguous()
        for group, named in groups.items()
        for name, tensor in named.items()
    }
    content = save(tensors)
    target = folder / f"{iteration:08d}.safetensors"
    _make_room(folder, target)
    write_atomic(target, content)
    # safetensors forgets the order of the tensors, and a sum over a dictionary in another order is another number.
    order = [[group, list(named)] for group, named in groups.items()]
    info = {"iteration": iteration, "groups": order, **info}
    write_json(_sidecar(target), {"info": info, "sha256": _checksum(content, info)})
    paths = sorted(folder.glob("*.safetensors"))
    # One that claims to be later was passed over, or this one would not have been made.
    up_to_now = [path for path in paths if path.name <= target.name]
    for old in {*paths} - {*up_to_now[-KEPT:]}:
        discard(_sidecar(old))
        discard(old)
    return target


def _make_room(folder: Path, target: Path) -> None:
    """Whatever stands where a checkpoint belongs, and is none, would end the run that only wants to write one."""
    if folder.is_symlink() or folder.is_file():
        discard(folder)
    for path in (target, _sidecar(target)):
        if path.is_dir():
            discard(path)


def newest_checkpoint(
    folder: Path, warn: Callable[[str], None], misfit: Misfit = lambda groups, info: ""
) -> tuple[Groups, dict[str, Any]] | None:
    """The newest checkpoint that is whole and fits, or None.

    One that is damaged, or does not fit, is reported through ``warn`` in one line and passed over.
    """
    paths = sorted(folder.glob("*.safetensors"), reverse=True)
    for path in paths:
        try:
            groups, info = _read(path)
            if why := misfit(groups, info):
                raise UserError(f"{path}: checkpoint is of another training ({why})")
            return groups, info
        except UserError as error:
            warn(f"{error}; going back to {'the start' if path == paths[-1] else 'the previous one'}")
    return None


def _read(path: Path) -> tuple[Groups, dict[str, Any]]:
    if not _sidecar(path).exists():
        raise UserError(f"{path}: checkpoint without its JSON")
    sidecar = read_json(_sidecar(path))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: checkpoint cannot be read ({error.strerror})") from error
    info = sidecar.get("info") if isinstance(sidecar, dict) else None
    if not isinstance(info, dict) or sidecar.get("sha256") != _checksum(content, info):
        raise UserError(f"{path}: checkpoint is damaged (its checksum does not match)")
    try:
        tensors = load(content)
        groups = {group: {name: tensors[f"{group}:{name}"] for name in names} for group, names in info["groups"]}
    except (SafetensorError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{path}: checkpoint is damaged ({type(error).__name__}: {error})") from error
    return groups, info


class Beside(Settings):
    """What a training keeps beside the tensors of a checkpoint."""

    iteration: Annotated[int, Field(ge=0)]
    environment_steps: Annotated[int, Field(ge=0)]
    seconds: dict[str, float]
    cpu_s: float = 0.0
    groups: list[Any]


def misfit_of_training(beginning: Groups, last: int, groups: Groups, info: dict[str, Any]) -> str:
    """Why a checkpoint is none of a training that begins with these ``groups`` and ends after ``last`` iterations.

    Numbers may differ, and further tensors may have come; what was there stays, of the same kind and shape.
    """
    try:
        iteration = Beside.model_validate(info).iteration
    except ValidationError as error:
        return f"{'.'.join(map(str, error.errors()[0]['loc']))}: {error.errors()[0]['msg']}"
    if iteration > last:
        return f"{iteration} iterations, and there are {last}"
    for group, tensors in beginning.items():
        if group not in groups:
            return f"it has no {group}"
        for name, tensor in tensors.items():
            if name not in groups[group] or _kind(groups[group][name]) != _kind(tensor):
                return f"{group} {name}: expected {_kind(tensor)}"
    if groups["best"] and {name: _kind(one) for name, one in groups["best"].items()} != {
        name: _kind(one) for name, one in beginning["params"].items()
    }:
        return "its best model has other parameters"
    if any(_kind(curve) != f"float64 [{iteration}]" for curve in groups["curves"].values()):
        return f"its curves are not of {iteration} iterations"
    return ""


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _checksum(content: bytes, info: dict[str, Any]) -> str:
    return sha256(content + json.dumps(info, sort_keys=True).encode())


def _sidecar(path: Path) -> Path:
    return path.with_suffix(".json")
