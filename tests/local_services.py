"""What a cluster has, on 127.0.0.1: PostgreSQL, MLflow over it, Ray on two nodes, an S3 server. For tests only."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

PATIENCE_S = 90.0
RAY = str(Path(sys.executable).with_name("ray"))
PROJECT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: str, there: object, process: subprocess.Popen[bytes] | None = None) -> None:
    """Until ``there()`` is true; fails after a while, or when the process has ended."""
    give_up = time.monotonic() + PATIENCE_S
    while not there():  # type: ignore[operator]
        ended = process is not None and process.poll() is not None
        if ended or time.monotonic() > give_up:
            raise RuntimeError(f"{what} did not start")
        time.sleep(0.1)


def listening(port: int) -> bool:
    """Whether somebody does."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def postgres_programs() -> Path | None:
    """Where Debian keeps PostgreSQL's programs; None where it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A fresh PostgreSQL in a folder; gives the URL of its database."""
    programs, port = postgres_programs(), free_port()
    assert programs is not None
    folder.mkdir(parents=True)
    # It refuses to run as root.
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
    if as_user:
        shutil.chown(folder, "postgres", "postgres")
        for parent in folder.parents:
            if parent.stat().st_uid == 0 and parent != parent.parent:
                with contextlib.suppress(OSError):
                    parent.chmod(parent.stat().st_mode | 0o011)
    data = folder / "data"
    make = [*as_user, str(programs / "initdb"), "-D", str(data), "-A", "trust", "-U", "metarepro", "-N"]
    subprocess.run(make, check=True, stdout=-3, cwd="/")
    serve = [*as_user, str(programs / "postgres"), "-D", str(data), "-k", str(folder)]
    serve += ["-h", "127.0.0.1", "-p", str(port), "-c", "fsync=off"]
    process = subprocess.Popen(serve, stdout=-3, stderr=-3, cwd="/")
    try:
        ready = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
        wait_for("PostgreSQL", lambda: subprocess.run(ready, check=False).returncode == 0, process)
        for name in ("mlflow", "optuna"):
            create = [str(programs / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "metarepro", name]
            subprocess.run(create, check=True)
        yield f"postgresql+psycopg://metarepro@127.0.0.1:{port}/mlflow"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE_S)


class MlflowServer:
    """MLflow over a database, with an artifact store of its own; it can be stopped and started."""

    def __init__(self, database: str, folder: Path, workers: int = 1) -> None:
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database]
        self._command += ["--artifacts-destination", str(folder / "artifacts"), "--serve-artifacts"]
        self._command += ["--host", "127.0.0.1", "--port", str(self.port), "--workers", str(workers)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Until it answers."""
        environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self._process = subprocess.Popen(
            self._command, stdout=-3, stderr=-3, env=environment, start_new_session=True, cwd=PROJECT
        )
        wait_for("MLflow", self._healthy, self._process)

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> None:
        """At once, as a crash would."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(PATIENCE_S)
            self._process = None


@contextlib.contextmanager
def mlflow_server(database: str, folder: Path, workers: int = 1) -> Iterator[MlflowServer]:
    """A server that has started."""
    server = MlflowServer(database, folder, workers)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class RayCluster:
    """Two raylets on one machine, each with folders of its own; ``environment`` is what their drivers need."""

    def __init__(self, folder: Path, cpus: tuple[int, ...] = (1, 1)) -> None:
        self.folder, self._cpus = folder, cpus
        self.address = f"127.0.0.1:{free_port()}"
        self._token = secrets.token_hex(16)
        self._nodes: list[subprocess.Popen[bytes]] = []

    @property
    def environment(self) -> dict[str, str]:
        """This process's, without what would make the nodes share anything."""
        own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self._token, "RAY_USAGE_STATS_ENABLED": "0"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
        return kept | own | {"RAY_worker_niceness": "0"}

    def scratch(self, node: int) -> Path:
        """Where the runs of a node work."""
        return self.folder / f"node{node}" / "scratch"

    def start(self) -> None:
        """The head, then the others."""
        for node in range(len(self._cpus)):
            self.start_node(node)

    def start_node(self, node: int) -> None:
        """One node, in a session of its own."""
        host, _, port = self.address.partition(":")
        place = (
            ["--head", f"--port={port}", "--include-dashboard=false"] if node == 0 else [f"--address={self.address}"]
        )
        command = [RAY, "start", *place, f"--node-ip-address={host}", f"--num-cpus={self._cpus[node]}", "--block"]
        # A Unix socket's path has at most 107 characters: Ray's folders cannot lie as deep as a test's.
        command += [f"--temp-dir={self.temporary(node)}", "--object-store-memory=100000000"]
        environment = self.environment | {"METAREPRO_SCRATCH": str(self.scratch(node)), "PYTHONPATH": str(PROJECT)}
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"node{node}.log").open("wb") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, start_new_session=True, cwd=self.folder
            )
        self._nodes.append(process)
        wait_for(f"node {node}", lambda: self._alive(process) >= node + 1, process)

    def temporary(self, node: int) -> Path:
        """Ray's own folder of a node."""
        return Path("/tmp") / f"mr{self._token[:8]}" / str(node)

    def _alive(self, process: subprocess.Popen[bytes]) -> int:
        count = [sys.executable, "-c", ALIVE, self.address]
        shown = subprocess.run(count, capture_output=True, text=True, env=self.environment, check=False, timeout=60)
        return int(shown.stdout.strip() or 0) if process.poll() is None else -1

    def kill_node(self, node: int) -> None:
        """All processes of a node at once, as when its machine is lost."""
        process = self._nodes[node]
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for pid in processes(f"mr{self._token[:8]}/{node}"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(PATIENCE_S)

    def stop(self) -> None:
        """End every node."""
        for node in reversed(range(len(self._nodes))):
            self.kill_node(node)
        shutil.rmtree(Path("/tmp") / f"mr{self._token[:8]}", ignore_errors=True)


ALIVE = """
import socket, sys
host, port = sys.argv[1].split(":")
try:
    socket.create_connection((host, int(port)), timeout=2).close()
except OSError:
    sys.exit(0)
import ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
print(sum(node["Alive"] for node in ray.nodes()))
"""


def processes(text: str) -> list[int]:
    """Processes whose command line or environment holds a text."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(text.encode() in (path / name).read_bytes() for name in ("cmdline", "environ")):
                found.append(int(path.name))
    return [pid for pid in found if pid != os.getpid()]


@contextlib.contextmanager
def ray_cluster(folder: Path, cpus: tuple[int, ...] = (1, 1)) -> Iterator[RayCluster]:
    """A cluster that has started."""
    cluster = RayCluster(folder, cpus)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
