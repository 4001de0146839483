"""What a page leaves beside itself: every table as CSV and every figure as SVG, under its name."""

from __future__ import annotations

from typing import Any

import pandas as pd

from reports.markup import inline_svg


class Attachments(dict[str, str]):
    """File name -> content of everything beside a page, collected while its blocks are made."""

    def table(self, name: str, frame: pd.DataFrame) -> dict[str, Any]:
        """Rows for the template, and the same table as CSV with ten significant digits."""
        if frame.empty:
            return {"rows": [], "file": None}
        self[f"{name}.csv"] = frame.to_csv(index=False, float_format="%.10g", lineterminator="\n")
        return {"rows": frame.to_dict("records"), "file": f"{name}.csv"}

    def figure(self, name: str, svg: str, alt: str) -> dict[str, Any]:
        """A figure for the template, and the same as SVG."""
        self[f"{name}.svg"] = svg
        return {"svg": inline_svg(svg, name, alt), "file": f"{name}.svg"}


def grouped(rows: list[dict[str, Any]], key: str) -> list[tuple[Any, list[dict[str, Any]]]]:
    """Rows that share a key, in order of first appearance."""
    found: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row[key], []).append(row)
    return list(found.items())
