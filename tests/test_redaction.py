"""No password and no token reaches what is printed or recorded."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from harness import cli, composition
from harness.errors import UserError
from harness.redaction import command_without_secrets, without_secrets
from harness.results import RunDirectory
from tests.harness_fixtures import new_results, write_study

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://user:hunter2@host/db", "postgresql://user:***@host/db"),
        ("postgresql+psycopg://user:hunter2@host:5432/db", "postgresql+psycopg://user:***@host:5432/db"),
        ("mysql://user@server:hunter2@host/db", "mysql://user@server:***@host/db"),
        ("postgresql://:hunter2@host/db", "postgresql://:***@host/db"),
        ("postgresql://user:a@hunter2@host/db", "postgresql://user:***@host/db"),
        ("postgresql://user:a/hunter2:b#c@host/db", "postgresql://user:***@host/db"),
        ("postgresql://user:it'shunter2@host/db", "postgresql://user:***@host/db"),
        ("http://user:hunter2@host:5000", "http://***@host:5000"),
        ("https://hunter2@host/path", "https://***@host/path"),
        ("HTTPS://hunter2:x-oauth-basic@host/path", "HTTPS://***@host/path"),
        ("postgresql://host/db?user=me&password=hunter2&sslmode=require", "postgresql://host/db?user=me&password=***&sslmode=require"),
        ("http://host/?api_key=hunter2", "http://host/?api_key=***"),
        ("s3://bucket/x?X-Amz-Signature=hunter2&X-Amz-Date=5", "s3://bucket/x?X-Amz-Signature=***&X-Amz-Date=5"),
        ("a --x=postgresql://u:hunter2@h/d, b", "a --x=postgresql://u:***@h/d, b"),
        ("'http://u:hunter2@h' and 'mysql://v:hunter2@h'", "'http://***@h' and 'mysql://v:***@h'"),
    ],
)  # fmt: skip
def test_what_is_secret_is_hidden(text: str, shown: str) -> None:
    assert SECRET in text
    assert without_secrets(text) == shown
    assert without_secrets(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:////tmp/a:b/mlflow.db",
        "http://127.0.0.1:5000",
        "http://127.0.0.1:5000 over postgresql://user@host/db",
        "postgresql+psycopg://user@host:5432/db?sslmode=require",
        "MLflow:  sqlite:///results/mlflow.db",
        "loss: 0.5 @ step 3",
        "suites/navigation/study.yaml:12: budget.tasks: expected a whole number",
        "file:///tmp/runs",
    ],
)
def test_what_is_not_secret_stays(text: str) -> None:
    assert without_secrets(text) == text


def test_a_recorded_command_holds_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = ["/x/metarepro", "run", "my study.yaml", "--tracking-uri", "postgresql://me:hun ter2@h/d", "--seeds=0"]
    monkeypatch.setattr(sys, "argv", typed)
    shown = "metarepro run 'my study.yaml' --tracking-uri 'postgresql://me:***@h/d' --seeds=0"
    assert composition.command_line() == shown
    assert command_without_secrets(["a", "b c"]) == "a 'b c'"


def test_an_error_holds_no_password() -> None:
    assert str(UserError(f"--storage mysql://me:{SECRET}@h/d: no answer")) == "--storage mysql://me:***@h/d: no answer"


@pytest.mark.parametrize(
    ("option", "address"),
    [
        ("--tracking-uri", "http://me:hunter2@127.0.0.1:1"),
        ("--tracking-uri", "http://me:hunter2/x@127.0.0.1:1"),
        ("--tracking-uri", "postgresql://me:hunter2@127.0.0.1:1/db"),
        ("--storage", "postgresql+psycopg://me:hunter2@127.0.0.1:1/db"),
        ("--storage", "postgresql+psycopg://me:hunter2/x@127.0.0.1:1/db"),
        ("--storage", "postgresql+nothing://me:hunter2@127.0.0.1:1/db"),
        ("--storage", "ftp://me:hunter2@127.0.0.1:1/db"),
    ],
)
def test_a_store_that_does_not_answer_is_named_without_its_password(
    option: str, address: str, tmp_path: Path, capsys: Any
) -> None:
    results = new_results(tmp_path / "results")
    command = ["tune", "tuning_navigation"] if option == "--storage" else ["run", str(write_study(tmp_path))]
    arguments = [*command, *(["--scale", "smoke"] if option == "--storage" else [])]
    assert cli.main([*arguments, "--results", str(results), "--workers", "1", option, address]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("metarepro: error: ")
    assert SECRET not in said.out + said.err


def test_what_made_a_run_fail_is_recorded_without_passwords(tmp_path: Path) -> None:
    directory = RunDirectory.of(tmp_path, "run")
    directory.fail(f"cannot reach mysql://me:{SECRET}@h/d", f"Traceback\n  mysql://me:{SECRET}@h/d\n")
    assert json.loads(directory.failure.read_text())["reason"] == "cannot reach mysql://me:***@h/d"
    assert SECRET not in directory.failure.read_text()
