"""A Ray of one's own, or a cluster at an address, and whether one is there."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
from typing import Any

from harness.checkpoint_store import store_at
from harness.errors import UserError, first_line
from harness.execution import Execution

PROBE = "import sys, ray; ray._raylet.GcsClient(address=sys.argv[1]).internal_kv_get(b'metarepro', None)"
"""Asks a cluster for nothing, in a process of its own: it waits long, and says much, where nobody answers."""
PROBE_S = 30.0


def join(ray: Any, execution: Execution) -> None:
    """Start Ray on this machine, or join the cluster at an address. Errors: none can be joined there."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if execution.address is None:
        ray.init(
            address="local",  # and not whatever else runs on this machine
            num_cpus=execution.workers,
            include_dashboard=False,
            object_store_memory=100_000_000,
            **quiet,
        )
        return
    try:
        ray.init(address=execution.address, namespace="metarepro", **quiet)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise _no_cluster(execution.address, first_line(error)) from None


def require_ready(execution: Execution) -> None:
    """Refuse, before anything runs, a cluster or a store of checkpoints that is not there. Errors: UserError."""
    if execution.address is not None:
        require_cluster(execution.address)
    if execution.checkpoints is not None:
        store_at(execution.checkpoints).require_usable()


def require_cluster(address: str) -> None:
    """Refuse an address at which no Ray answers, within seconds; Ray's own attempts take minutes. Errors: UserError."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if "://" in address:
        raise _no_cluster(address, "expected auto or HOST:PORT; for ray:// run the command on a machine of the cluster")
    if not host or not port.isdecimal():
        raise _no_cluster(address, "expected auto or HOST:PORT")
    try:
        with socket.create_connection((host, int(port)), timeout=5):
            pass
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, f"{first_line(error)}; `ray start --head` begins one") from None
    try:
        probe = [sys.executable, "-c", PROBE, address]
        done = subprocess.run(probe, capture_output=True, text=True, timeout=PROBE_S, check=False)
    except subprocess.TimeoutExpired:
        raise _no_cluster(address, "what listens there does not answer as Ray does") from None
    if "AuthenticationError" in done.stderr:
        how = "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
        raise _no_cluster(address, f"its token is missing or another one; {how}")
    if done.returncode:
        raise _no_cluster(address, (done.stderr.strip().splitlines() or ["no answer"])[-1][:200])


def _no_cluster(address: str, reason: str) -> UserError:
    return UserError(f"--address {address}: no Ray cluster can be joined there ({reason})")
