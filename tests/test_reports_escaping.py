"""What comes from study files and records is text on the page, whatever it looks like."""

from __future__ import annotations

import json
import sqlite3
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from reports.markup import TEMPLATES
from tests.harness_fixtures import new_results, run_in_process, tiny, write_study
from tests.test_fuzz_stores import command
from tests.test_grid_study import GRID

HOSTILE = """<script>alert(1)</script>"'><img src=x onerror=f()>--></style></svg>]]>&amp;{{7919*7919}}$\\frac$`<b>`"""
"""Ends whatever it may stand in, an attribute, a comment, a style, a drawing, and then begins something of its own."""


class Page(HTMLParser):
    """What a browser would make of a page: its tags and their attributes, its scripts, its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: set[tuple[str, str]] = set()
        self.scripts: list[str] = []
        self.text: list[str] = []
        self._in_script = False
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags |= {(tag, name) for name, _ in [*attrs, ("", None)]}
        self.text += [value or "" for _, value in attrs]
        self._in_script = tag == "script"

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_data(self, data: str) -> None:
        (self.scripts if self._in_script else self.text).append(data)


def page(folder: Path, data: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> Page:
    """The page of a study all of whose records are hostile wherever a text may stand."""
    path, results = write_study(folder, data), new_results(folder / "results")
    assert run_in_process("run", path, results) == 0
    with sqlite3.connect(results / "mlflow.db") as database:
        free = ("code_version", "suite_version", "algorithm_version", "mlflow.runName", "mlflow.user", "reason")
        database.execute(f"update tags set value = ? where key in {free}", (HOSTILE,))
        database.execute("update params set value = ?", (HOSTILE,))
    for manifest in (results / "artifacts").rglob("manifest.json"):
        told = json.loads(manifest.read_text())
        told |= dict.fromkeys(("python", "cpu", "lock_hash", "started_at", "command", "reason", "threads"), HOSTILE)
        manifest.write_text(json.dumps(told | {"packages": {HOSTILE: HOSTILE}}))
        manifest.with_name("DONE.json").unlink()  # it has the checksum of what was there
    assert command(capsys, "report", str(path), "--results", str(results)) == 0
    return Page(results / "reports" / f"{data['study']}.html")


def said(data: dict[str, Any]) -> dict[str, Any]:
    """A study whose texts are all hostile."""
    methods = {name: entry | {"description": HOSTILE} for name, entry in data["methods"].items()}
    difference = dict.fromkeys(("topic", "report", "code", "here"), HOSTILE)
    texts = {"study": "s" * 64, "title": HOSTILE, "paper": HOSTILE, "findings": [HOSTILE], "deviations": [difference]}
    return data | texts | {"methods": methods}


def grid() -> dict[str, Any]:
    """The little grid with hostile coordinates."""
    data = yaml.safe_load(GRID)
    for name, entry in data["grid"].items():
        entry["columns"]["label"] = f"{HOSTILE} {name}"
    return said(data)


@pytest.mark.parametrize("study", ["single", "grid"])
def test_no_text_of_a_study_or_of_its_records_becomes_part_of_the_page(
    study: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = said(tiny()) if study == "single" else grid()
    found = page(tmp_path, data, capsys)
    assert "".join(found.scripts) == (TEMPLATES / "page.js").read_text(encoding="utf-8")
    assert not {tag for tag, _ in found.tags} & {"img", "iframe", "object", "embed", "b", "base", "form"}
    assert [name for _, name in found.tags if name.startswith("on") or name == "srcdoc"] == []
    text = "".join(found.text)
    assert text.count(HOSTILE.partition("`")[0]) > 5
    assert str(7919 * 7919) not in text
