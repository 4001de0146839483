"""Reading a `published.yaml`: from text to validated data, or one line that says what is wrong and where."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import ValidationError

from harness.errors import UserError
from harness.yaml_source import read_yaml
from reports.papers.published import Published
from reports.verdict_blocks import PaperInfo

CATALOGUE = Path(__file__).with_name("catalogue.yaml")
"""What identifies a paper: id -> short name, citation, code, BibTeX; once, however many suites have tables of it."""
WITHOUT_SUITE = Path(__file__).with_name("without_suite.yaml")
"""What papers print about experiments of which no suite exists."""


def load_published(path: Path) -> Published:
    """Read and check a `published.yaml`.

    Errors:
        UserError: the file is missing, is not YAML, or breaks the schema; one line with the file, the place, the fault.
    """
    data = read_yaml(path).data
    known = _catalogue()
    papers = data.get("papers")
    for paper in papers if isinstance(papers, list) else []:
        if isinstance(paper, dict):
            paper |= {key: text for key, text in known.get(str(paper.get("id")), {}).items() if key not in paper}
    try:
        return Published.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{path}: {_first_problem(error, data)}") from None


def _first_problem(error: ValidationError, data: dict[str, Any]) -> str:
    """The most specific problem as one line, with names instead of list positions."""
    problem = error.errors()[0]
    kinds = get_args(Literal["results", "tests", "settings", "claims"])
    place = ""
    node: Any = data
    for part in problem["loc"]:
        if part in kinds and isinstance(node, dict) and "kind" in node and not isinstance(node.get(part), list):
            continue  # the name of the union member, not a key of the file
        node = _child(node, part)
        name = node.get("id", part) if isinstance(node, dict) and isinstance(part, int) else part
        place += f"[{name}]" if isinstance(part, int) else f".{part}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        message = "this field is missing"
    elif problem["type"] == "extra_forbidden":
        message = "unknown field"
    elif problem["type"] != "value_error":
        message += f" (found {problem['input']!r})"
    return f"{place.lstrip('.') or 'file'}: {message}"


def _child(node: Any, part: int | str) -> Any:
    try:
        return node[part]
    except (KeyError, IndexError, TypeError):
        return None


def catalogue() -> list[PaperInfo]:
    """Every paper of the project, in the order of the catalogue."""
    return [PaperInfo(name, told["short"], told["citation"], told["bibtex"]) for name, told in _catalogue().items()]


@cache
def _catalogue() -> dict[str, dict[str, str]]:
    return dict(yaml.safe_load(CATALOGUE.read_text(encoding="utf-8")))
