"""The files with which a cluster is begun: Ray takes the one, and the other starts Ray and ends with the study."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import ray
import yaml

from harness.results import RunDirectory
from tests.harness_fixtures import PROJECT, load, tiny, write_study
from tests.local_services import free_port, processes

CLUSTER = PROJECT / "harness" / "cluster"
SRUN = """#!/bin/sh
# Two nodes of one machine: what would be run on a node is run here.
while [ "${1#--}" != "$1" ]; do shift; done
[ "$1" = hostname ] && { echo 127.0.0.1 ::1; exit; }
case "$*" in *"--head"*) ;; *"ray start"*) set -- "$@" --node-ip-address=127.0.0.1 ;; esac
echo "$@" >> "$SRUN_LOG"
exec "$@"
"""


def test_ray_takes_the_cluster_file() -> None:
    described = yaml.safe_load((CLUSTER / "ray_cluster.yaml").read_text())
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(described, schema)
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(described)
    validate_config(prepared)
    assert prepared["max_workers"] == len(described["provider"]["worker_ips"])
    commands = " ".join(described["head_start_ray_commands"] + described["worker_start_ray_commands"])
    assert commands.count("RAY_AUTH_MODE=token") == 2


def _submitted(tmp_path: Path, study: Path) -> tuple[subprocess.Popen[str], str]:
    """The SLURM script as a job on two nodes, and the mark of its processes."""
    tools, mark = tmp_path / "tools", f"METAREPRO_TEST_MARK={tmp_path.name}"
    tools.mkdir()
    (tools / "srun").write_text(SRUN)
    (tools / "scontrol").write_text("#!/bin/sh\necho first\necho second\n")
    for tool in tools.iterdir():
        tool.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "METAREPRO_BIN": str(Path(sys.executable).parent),
        "METAREPRO_TEST_MARK": tmp_path.name,
        "METAREPRO_SCRATCH": str(tmp_path / "scratch"),
        "SRUN_LOG": str(tmp_path / "srun.log"),
        "PORT": str(free_port()),
        "SLURM_JOB_NODELIST": "first,second",
        "SLURM_CPUS_PER_TASK": "1",
    }
    environment = {name: value for name, value in environment.items() if not name.startswith("RAY_")}
    command = ["bash", str(CLUSTER / "slurm.sh"), "run", str(study), "--results", str(tmp_path / "results")]
    command += ["--checkpoints", str(tmp_path / "store")]
    return subprocess.Popen(command, cwd=PROJECT, stdout=-1, stderr=-1, text=True, env=environment), mark


def _nothing_left(mark: str) -> None:
    give_up = time.monotonic() + 60.0
    while (left := processes(mark)) and time.monotonic() < give_up:
        time.sleep(0.5)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []


def test_the_slurm_script_starts_ray_on_its_nodes_saves_when_told_and_goes_on(tmp_path: Path) -> None:
    data = tiny() | {"checkpoint_every": 50}
    data["methods"] = {"maml": data["methods"]["maml"]}
    data["budget"]["meta_iterations"] = 3000
    study = write_study(tmp_path, data)
    (run,) = load(study).plan()
    process, mark = _submitted(tmp_path, study)
    saved = tmp_path / "store" / "runs" / run.spec.run_id
    give_up = time.monotonic() + 90.0
    while not any(saved.glob("*.json")) and process.poll() is None and time.monotonic() < give_up:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    assert "the same command goes on" in err
    assert (tmp_path / "srun.log").read_text().count("ray start") == 2
    _nothing_left(mark)
    reached = max(int(path.stem) for path in saved.glob("*.json"))
    assert 0 < reached < 3000
    (tmp_path / "tools").rename(tmp_path / "tools before")
    process, mark = _submitted(tmp_path, study)
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, out + err
    assert RunDirectory.of(tmp_path / "results", run.spec.run_id).is_finished()
    _nothing_left(mark)
