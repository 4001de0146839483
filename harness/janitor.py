"""What Ray starts ends with its driver, however that ends.

Ray ends its processes when the driver says so, and most of them when the driver is killed; some agents may stay, and
they hide the environment that they were given. A process of our own watches what descends from the driver. If that dies
without a word, it sees to the end of the others.

    python -m harness.janitor PID     (its standard input closes with the driver of that number)
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

GRACE_S = 5.0
"""How long what is going to end by itself may take."""
LOOK_S = 0.5
"""How often the janitor looks who is there."""
PROCESSES = Path("/proc")


class Process(NamedTuple):
    """A process: numbers are used again, together with the time of the start they are not."""

    pid: int
    started: int


def engage() -> subprocess.Popen[bytes] | None:
    """See to the end of what this process starts from now on; None where a system does not show processes."""
    if not PROCESSES.is_dir():
        return None
    command = [sys.executable, "-m", "harness.janitor", str(os.getpid())]
    paths = os.pathsep.join(filter(None, [str(Path(__file__).parent.parent), *sys.path]))
    environment = os.environ | {"PYTHONPATH": paths}
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, env=environment)


def _read(pid: int) -> tuple[Process, int]:
    """A process and who started it. Raises OSError or ValueError where there is none, or only what is left of one."""
    state, parent, *more = (PROCESSES / str(pid) / "stat").read_text().rpartition(")")[2].split()
    if state == "Z":
        raise ProcessLookupError(pid)
    return Process(pid, int(more[17])), int(parent)


def descendants(of: set[int]) -> set[Process]:
    """Who was started by some processes, or by whom they started, and is still there."""
    children: dict[int, list[Process]] = {}
    for name in filter(str.isdecimal, os.listdir(PROCESSES)):
        with contextlib.suppress(OSError, ValueError):  # gone meanwhile
            process, parent = _read(int(name))
            children.setdefault(parent, []).append(process)
    found, parents = set[Process](), list(of)
    while parents:
        mine = children.pop(parents.pop(), [])
        found.update(mine)
        parents += [child.pid for child in mine]
    return found


def alive(known: set[Process]) -> set[Process]:
    """Those that are still there, and who descends from them."""
    there = set[Process]()
    for process in known:
        with contextlib.suppress(OSError, ValueError):
            if _read(process.pid)[0] == process:
                there.add(process)
    return there | descendants({process.pid for process in there})


def sweep(known: set[Process], mine: int) -> None:
    """End them, with a moment to end by themselves."""
    give_up = time.monotonic() + GRACE_S
    left = known
    while (left := {one for one in alive(left) if one.pid != mine}) and time.monotonic() < give_up:
        time.sleep(0.2)
    for process in left:
        with contextlib.suppress(OSError):
            os.kill(process.pid, signal.SIGKILL)


def dismiss(janitor: subprocess.Popen[bytes] | None) -> None:
    """The driver has ended by itself what it started, and goes on."""
    if janitor is not None:
        with contextlib.suppress(OSError):  # the janitor may have been killed
            janitor.communicate(b"done")


def watch(driver: int) -> None:
    """Until the driver says that all is done, or has died; then end what is left."""
    known = set[Process]()
    while not select.select([sys.stdin], [], [], LOOK_S)[0]:
        known = alive(known) | descendants({driver})
    if not os.read(sys.stdin.fileno(), 16):
        sweep(known, os.getpid())


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    watch(int(sys.argv[1]))
