"""What Ray starts ends with its driver, however that ends.

Ray ends its processes when the driver says so, and most of them when the driver is killed; some agents stay. A process
of our own waits for the end of the driver, and then for whatever carries its mark.

    python -m harness.janitor MARK     (its standard input closes with the driver)
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

VARIABLE = "METAREPRO_SESSION"
GRACE_S = 5.0
"""How long what is going to end by itself may take."""
PROCESSES = Path("/proc")


def engage() -> subprocess.Popen[bytes] | None:
    """Mark what this process starts from now on, and see to its end; None where a system does not show processes."""
    if not PROCESSES.is_dir():
        return None
    mark = os.environ[VARIABLE] = secrets.token_hex(16)
    command = [sys.executable, "-m", "harness.janitor", mark]
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parent.parent), *sys.path]))
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, env=environment)


def marked(mark: str) -> list[int]:
    """Processes that carry a mark in their environment."""
    text, found = f"{VARIABLE}={mark}".encode(), []
    for path in PROCESSES.glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # gone meanwhile, or somebody else's
            if text in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def sweep(mark: str) -> None:
    """End what carries the mark, with a moment to end by itself."""
    give_up = time.monotonic() + GRACE_S
    while marked(mark) and time.monotonic() < give_up:
        time.sleep(0.2)
    for pid in marked(mark):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    sweep(sys.argv[1])
