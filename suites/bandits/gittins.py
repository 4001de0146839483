"""Gittins indices of Bernoulli arms with uniform priors, by calibration; kept on disk once computed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from harness.files import sha256, write_atomic

VERSION = 1
"""Goes up whenever the values change: an older file is then not read."""


def cache_folder() -> Path:
    """``$METAREPRO_CACHE``, else ``$XDG_CACHE_HOME/metarepro``, else ``~/.cache/metarepro``."""
    if own := os.environ.get("METAREPRO_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "metarepro"


def gittins_table(discount: float, pulls: int, grid: int) -> Tensor:
    """Index of every state with fewer than ``pulls`` pulls, from disk or computed now; [successes, failures] float64.

    Entries with successes + failures ≥ ``pulls`` are NaN. A file whose checksum does not hold is made anew.
    """
    parameters = {"version": VERSION, "discount": discount, "pulls": pulls, "grid": grid}
    name = sha256(json.dumps(parameters, sort_keys=True).encode())[:16]
    path = cache_folder() / f"gittins_{name}.safetensors"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"{path.parent}: cannot be made ({error.strerror}); set METAREPRO_CACHE to a folder for index tables"
        raise OSError(reason) from None
    # On the CPU, wherever the run computes: the file must not depend on who made it.
    with torch.device("cpu"), FileLock(path.with_suffix(".lock")):
        if (table := _read(path, pulls)) is None:
            table = gittins_indices(discount, pulls, grid)
            write_atomic(path, save({"index": table, "sha256": _checksum(table)}))
    return torch.as_tensor(table)


def _read(path: Path, pulls: int) -> Tensor | None:
    try:
        held = load(path.read_bytes())
        table, checksum = held["index"], held["sha256"]
    except (OSError, SafetensorError, KeyError):
        return None
    whole = table.shape == (pulls, pulls) and table.dtype == torch.float64 and torch.equal(checksum, _checksum(table))
    return table if whole else None


def _checksum(table: Tensor) -> Tensor:
    """SHA-256 of the values, as bytes."""
    return torch.tensor(list(bytes.fromhex(sha256(table.numpy().tobytes()))), dtype=torch.uint8)


def gittins_indices(discount: float, pulls: int, grid: int) -> Tensor:
    """Calibration against a known arm (Gittins 1979; Gittins, Glazebrook & Weber 2011, section 8.4).

        V_n(s, f; λ) = max{ λ / (1-γ),  m (1 + γ V_{n+1}(s+1, f; λ)) + (1-m) γ V_{n+1}(s, f+1; λ) }
        m = (s+1) / (s+f+2),   V_M(s, f; λ) = max{λ, m} / (1-γ),   n = s + f
        index(s, f) = the λ at which both sides of the max are equal

    Backward from M = ``pulls``, where learning stops: an approximation from below whose error vanishes like γ^(M-n).
    λ runs over ``grid`` equal steps of [0, 1]; between two of them the crossing is interpolated. Discounts of the RL²
    evaluation: 0.9, 0.99, 0.999, 0.9999, with M = 1000.

    Shapes: returns [pulls, pulls] float64, entry [s, f], NaN where s + f ≥ pulls.
    Errors: ValueError unless 0 < discount < 1, pulls ≥ 1, grid ≥ 2.
    """
    if not 0.0 < discount < 1.0 or pulls < 1 or grid < 2:
        raise ValueError(
            f"needs a discount in (0, 1), a pull and two grid values, found {discount}, {pulls} and {grid}"
        )
    levels = torch.linspace(0.0, 1.0, grid, dtype=torch.float64)
    indices = torch.full((pulls, pulls), torch.nan, dtype=torch.float64)
    # Everything is multiplied with 1 - γ: values then lie in [0, 1].
    after = torch.maximum(_means(pulls).unsqueeze(1), levels)
    for n in range(pulls - 1, -1, -1):
        mean = _means(n).unsqueeze(1)
        go_on = torch.lerp(after[:-1], after[1:], mean).mul_(discount).add_(mean * (1.0 - discount))
        successes = torch.arange(n + 1)
        indices[successes, n - successes] = _crossing(go_on - levels, levels)
        after = torch.maximum(go_on, levels, out=go_on)
    return indices


def _means(n: int) -> Tensor:
    """Posterior means after n pulls with 0 ... n successes."""
    return (torch.arange(n + 1, dtype=torch.float64) + 1.0) / (n + 2.0)


def _crossing(advantage: Tensor, levels: Tensor) -> Tensor:
    """Where the advantage of going on [states, grid], which falls with λ, reaches zero."""
    last = (advantage > 0.0).sum(-1, keepdim=True).clamp_(1, len(levels) - 1) - 1
    here, there = advantage.gather(1, last), advantage.gather(1, last + 1)
    share = (here / (here - there)).clamp_(0.0, 1.0)
    return (levels[last] + share * (levels[1] - levels[0])).squeeze(1)
