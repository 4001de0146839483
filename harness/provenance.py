"""Where a number comes from: code version, packages, machine."""

from __future__ import annotations

import datetime
import functools
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from harness.redaction import without_secrets

PROJECT = Path(__file__).resolve().parent.parent
ROOMS = ("harness", "suites", "algorithms")
PACKAGES = (
    "torch", "numpy", "scipy", "gymnasium", "mujoco", "numba", "mlflow", "optuna", "ray", "pyarrow",
    "safetensors", "pydantic",
)  # fmt: skip


ENVIRONMENT = frozenset(
    {
        "CUBLAS_WORKSPACE_CONFIG",
        "CUDA_VISIBLE_DEVICES",
        "KMP_AFFINITY",
        "LD_PRELOAD",
        "MKL_CBWR",
        "MKL_NUM_THREADS",
        "NVIDIA_TF32_OVERRIDE",
        "OMP_NUM_THREADS",
        "OMP_PROC_BIND",
        "OPENBLAS_NUM_THREADS",
        "PYTHONHASHSEED",
        "SLURM_ARRAY_JOB_ID",
        "SLURM_ARRAY_TASK_ID",
        "SLURM_CPUS_PER_TASK",
        "SLURM_JOB_ID",
        "SLURM_JOB_NODELIST",
        "SLURM_JOB_NUM_NODES",
        "SLURM_NTASKS",
    }
)
"""What of the environment is recorded: what can decide a number or a time, and which job it was. Anything else could be
a secret."""
ENVIRONMENT_PREFIX = "MALLOC_"


def environment() -> dict[str, str]:
    """The variables of :data:`ENVIRONMENT` that are set in this process, and nothing else of the environment."""
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if name in ENVIRONMENT or name.startswith(ENVIRONMENT_PREFIX)
    }


@functools.cache
def code_version() -> tuple[str, bool]:
    """Git commit and whether tracked files differ from it; outside a checkout the package version, not dirty."""
    if (PROJECT / ".git").exists():
        commit = _git("rev-parse", "HEAD")
        if commit:
            return commit[:12], bool(_git("status", "--porcelain", "--untracked-files=no"))
    return importlib.metadata.version("metarepro"), False


def _git(*arguments: str) -> str:
    try:
        command = ["git", "-C", str(PROJECT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def provenance(command: str) -> dict[str, Any]:
    """What the manifest of every run says about its surroundings; of the environment only what is listed above."""
    commit, dirty = code_version()
    return machine() | {
        "code_version": commit,
        "dirty": dirty,
        "command": without_secrets(command),
        "environment": environment(),
        "started_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


@functools.cache
def machine() -> dict[str, Any]:
    """The machine of this process and what is installed there."""
    lock = PROJECT / "requirements.lock"
    return {
        "lock_hash": hashlib.sha256(lock.read_bytes()).hexdigest()[:16] if lock.exists() else "no requirements.lock",
        "packages": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
    }


@functools.cache
def source_hash() -> str:
    """SHA-256 of the code that decides numbers, as it lies here: two machines with the same one do the same."""
    digest = hashlib.sha256()
    for path in sorted(path for room in ROOMS for path in (PROJECT / room).rglob("*.py")):
        digest.update(str(path.relative_to(PROJECT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
