"""The pages that a command serves: for this machine only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from harness import cli

SECRET = "hunter2"


@pytest.mark.parametrize(("command", "program"), [("ui", "mlflow"), ("tune-ui", "optuna-dashboard")])
def test_a_server_is_for_this_machine_only_and_says_how_to_see_it_from_another(
    command: str, program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda path, arguments: started.append([str(one) for one in arguments]))
    monkeypatch.setattr("harness.tuning.storage.database", lambda url: None)
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", "")  # taken back afterwards
    option = "--tracking-uri" if command == "ui" else "--storage"
    port = "45999"
    address = f"postgresql+psycopg://me:{SECRET}@h/d"
    assert cli.main([command, "--port", port, "--results", str(tmp_path), option, address]) in (0, None)
    (arguments,) = started
    assert program in " ".join(arguments)
    assert arguments[arguments.index("--host") + 1] == "127.0.0.1"
    said = capsys.readouterr().out
    assert SECRET not in said
    assert f"ssh -L {port}:127.0.0.1:{port} " in said
    if command == "ui":
        assert SECRET not in " ".join(arguments)
        assert os.environ["MLFLOW_BACKEND_STORE_URI"] == address
