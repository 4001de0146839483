"""Of the surroundings of a run, what is recorded and what is not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from harness.provenance import ENVIRONMENT, environment, provenance
from tests.harness_fixtures import new_results, run_in_process, write_study

SECRET = "hunter2"


def test_of_the_environment_only_what_is_on_the_list_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("MY_OMP_NUM_THREADS", SECRET)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    for name in ENVIRONMENT - {"OMP_NUM_THREADS", "SLURM_JOB_ID"}:
        monkeypatch.delenv(name, raising=False)
    expected = {"MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "3", "SLURM_JOB_ID": "77"}
    others = {name for name in os.environ if name.startswith("MALLOC_")} - expected.keys()
    assert {name: value for name, value in environment().items() if name not in others} == expected
    assert SECRET not in json.dumps(provenance(f"metarepro run --tracking-uri mysql://me:{SECRET}@h/d"))

    results = new_results(tmp_path / "results")
    assert run_in_process("run", write_study(tmp_path), results) == 0
    for manifest in results.glob("runs/*/manifest.json"):
        assert expected.items() <= json.loads(manifest.read_text())["environment"].items()
    written = [path for path in results.rglob("*") if path.is_file()]
    assert len(written) > 10
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]
