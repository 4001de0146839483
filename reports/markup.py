"""From numbers, text and figures to HTML: the template engine, its filters, the style and the script of all pages."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from reports import canvas, tables

TEMPLATES = Path(__file__).parent / "templates"
REM_PER_POINT = 0.092
"""A figure is shown a tenth larger than it was drawn, so that its text is about as large as the page's captions."""


def render(template: str, context: Mapping[str, Any]) -> str:
    """A page as text."""
    return environment().get_template(template).render(context)


def environment() -> Environment:
    """The template engine of the pages: autoescape on, an undefined name is an error.

    Style and script stand in the page as they are, without passing through the engine; the page's security policy names
    the script by its hash, so that no other script could run.
    """
    engine = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("style.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    engine.globals |= {"style": Markup(style), "script": Markup(script), "script_hash": f"sha256-{digest}"}
    engine.filters |= {"num": tables.number, "pvalue": p_value, "marked": marked, "capital": capital}
    engine.filters |= {"sort": sort_key, "breakable": breakable}
    return engine


def inline_svg(svg: str, name: str, alt: str) -> Markup:
    """An SVG for use inside HTML: ids made unique by the figure's name, ink and grid in the page's colours, alt text.

    The SVG itself is matplotlib's output, in which labels are escaped already.
    """
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = body.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    body = body.replace(canvas.INK, "currentColor").replace(canvas.GRID, "var(--line)")
    points = re.search(r'<svg [^>]*?width="([\d.]+)pt"', body)
    natural = f' style="--natural: {float(points[1]) * REM_PER_POINT:.1f}rem"' if points else ""
    label = Markup('role="img" aria-label="{}"{} ').format(alt, Markup(natural))
    return Markup(body.replace("<svg ", f"<svg {label}", 1))


def marked(text: str) -> Markup:
    """Escaped text in which `words between backticks` are code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def capital(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def breakable(name: str) -> Markup:
    """A name of words that may be broken into lines after its dots and underscores."""
    return Markup(re.sub(r"(?<=[._])", "<wbr>", str(escape(name))))


def sort_key(value: float | None) -> str:
    """A number as the page's script sorts by it; empty, and so last, where there is none."""
    return "" if value is None or pd.isna(value) else f"{value:.10g}"


def p_value(p: float) -> str:
    """A p value with two significant digits; a dash where there is none."""
    if p is None or pd.isna(p):
        return tables.NO_NUMBER
    for limit, decimals in ((0.1, 2), (0.01, 3), (0.001, 4)):
        if p >= limit:
            return f"{p:.{decimals}f}"
    if p == 0:
        return "0"
    digits, exponent = f"{p:.1e}".split("e")
    return f"{digits}·10{str(int(exponent)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"
