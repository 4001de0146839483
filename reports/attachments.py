"""What a page leaves beside itself: every table as CSV and every figure as SVG, under its name."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from harness.files import write_atomic
from reports.markup import inline_svg


@dataclass(frozen=True)
class Attachments:
    """File name -> content of everything beside a page, collected while its blocks are made.

    prefix: what every name begins with, so that the files and figures of two studies on one page never meet.
    """

    contents: dict[str, str] = field(default_factory=dict)
    prefix: str = ""

    def of(self, owner: str) -> Attachments:
        """The same collection under names that begin with `owner`."""
        return Attachments(self.contents, f"{self.prefix}{owner}-")

    def text(self, name: str, content: str) -> str:
        """Keep a file; returns its full name. ValueError where the page has left a file of this name already."""
        full = self.prefix + re.sub(r"[^\w.-]+", "_", name)
        if full in self.contents:
            raise ValueError(f"two blocks of the page write {full}")
        self.contents[full] = content
        return full

    def table(self, name: str, frame: pd.DataFrame) -> dict[str, Any]:
        """Rows for the template, and the same table as CSV with ten significant digits."""
        if frame.empty:
            return {"rows": [], "file": None}
        file = self.text(f"{name}.csv", frame.to_csv(index=False, float_format="%.10g", lineterminator="\n"))
        return {"rows": frame.to_dict("records"), "file": file}

    def figure(self, name: str, svg: str, alt: str) -> dict[str, Any]:
        """A figure for the template, and the same as SVG."""
        file = self.text(f"{name}.svg", svg)
        return {"svg": inline_svg(svg, file.removesuffix(".svg"), alt), "file": file}

    def write(self, folder: Path) -> None:
        """Write every file. Errors: UserError where the folder cannot be written."""
        for name, content in sorted(self.contents.items()):
            write_atomic(folder / name, content.encode())


def grouped(rows: list[dict[str, Any]], key: str) -> list[tuple[Any, list[dict[str, Any]]]]:
    """Rows that share a key, in order of first appearance."""
    found: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row[key], []).append(row)
    return list(found.items())
