"""Checkpoints: safetensors and JSON, written atomically, checked by checksum, never unpickled."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from harness.errors import UserError
from harness.files import read_json, sha256, write_atomic, write_json

Groups = dict[str, dict[str, Tensor]]
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
    write_atomic(target, content)
    # safetensors forgets the order of the tensors, and a sum over a dictionary in another order is another number.
    order = [[group, list(named)] for group, named in groups.items()]
    info = {"iteration": iteration, "groups": order, **info}
    write_json(_sidecar(target), {"info": info, "sha256": _checksum(content, info)})
    for old in sorted(folder.glob("*.safetensors"))[:-KEPT]:
        _sidecar(old).unlink(missing_ok=True)
        old.unlink(missing_ok=True)
    return target


def newest_checkpoint(folder: Path, warn: Callable[[str], None]) -> tuple[Groups, dict[str, Any]] | None:
    """The newest checkpoint that is whole, or None.

    A damaged one is reported through ``warn`` in one line and passed over.
    """
    paths = sorted(folder.glob("*.safetensors"), reverse=True)
    for path in paths:
        try:
            return _read(path)
        except UserError as error:
            warn(f"{error}; going back to {'the start' if path == paths[-1] else 'the previous one'}")
    return None


def _read(path: Path) -> tuple[Groups, dict[str, Any]]:
    if not _sidecar(path).exists():
        raise UserError(f"{path}: checkpoint without its JSON")
    sidecar = read_json(_sidecar(path))
    content = path.read_bytes()
    info = sidecar.get("info") if isinstance(sidecar, dict) else None
    if info is None or sidecar.get("sha256") != _checksum(content, info):
        raise UserError(f"{path}: checkpoint is damaged (its checksum does not match)")
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise UserError(f"{path}: checkpoint is damaged ({error})") from error
    groups: Groups = {group: {name: tensors[f"{group}:{name}"] for name in names} for group, names in info["groups"]}
    return groups, info


def _checksum(content: bytes, info: dict[str, Any]) -> str:
    return sha256(content + json.dumps(info, sort_keys=True).encode())


def _sidecar(path: Path) -> Path:
    return path.with_suffix(".json")
