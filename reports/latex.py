"""Verdicts and references for a paper of one's own: LaTeX and BibTeX."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from reports.verdicts import Judgement

SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "−": "$-$", "±": r"$\pm$", "≥": r"$\geq$", "≤": r"$\leq$", "≈": r"$\approx$", "×": r"$\times$", "·": r"$\cdot$",
    "÷": r"$\div$", "√": r"$\surd$", "–": "--", "—": "---", "’": "'", "‘": "`", "“": "``", "”": "''", "…": r"\ldots{}",
    "→": r"$\rightarrow$", "∇": r"$\nabla$", "∞": r"$\infty$", "<": r"$<$", ">": r"$>$", "\u00a0": "~",
    "ᵀ": r"$^{\top}$", "′": "$'$", "†": r"\dag{}",
}  # fmt: skip
GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "varepsilon", "η": "eta", "θ": "theta", "κ": "kappa",
    "λ": "lambda", "μ": "mu", "π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau", "φ": "varphi",
}  # fmt: skip
RAISED = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
HEAD = r"""% Verdicts on published statements and numbers, made by metarepro.
% Needs \usepackage{booktabs,longtable,array}; \cite uses papers.bib.
\newcolumntype{L}[1]{>{\raggedright\arraybackslash}p{#1\linewidth}}
\begin{longtable}{@{}L{.28}L{.16}L{.2}lL{.18}@{}}
\toprule
Published & Paper & Ours & Difference [95\,\%] & Verdict \\
\midrule
\endhead
"""


def table(judgements: Sequence[Judgement], differences: Mapping[str, str], keys: Mapping[str, str]) -> str:
    """A `longtable`, a line per judgement in the order given.

    differences: id -> the difference as text. keys: short name of a paper -> its BibTeX key.
    """
    lines = [_line(one, differences[one.id], keys) for one in judgements]
    return "\n".join([HEAD.rstrip("\n"), *lines, r"\bottomrule", r"\end{longtable}", ""])


def _line(one: Judgement, difference: str, keys: Mapping[str, str]) -> str:
    cite = f"~\\cite{{{keys[one.paper]}}}" if one.paper in keys else ""
    row = one.rows[0] if len(one.rows) == 1 else None
    ours = row.ours if row else (f"{len(one.rows)} comparisons" if one.rows else "–")
    size = " (reduced size)" if one.reduced else ""
    cells = [
        f"{escaped(one.statement)} ({escaped(one.where)}){cite}",
        escaped(row.printed if row and row.printed else "–"),
        escaped(ours),
        escaped(difference),
        escaped(one.verdict.replace("_", " ").lower() + size),
    ]
    return " & ".join(cells) + r" \\"


def escaped(text: str) -> str:
    """Text as LaTeX prints it."""
    raised = re.sub("[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda found: f"\0{found[0].translate(RAISED)}\1", text)
    letters = "".join(f"$\\{GREEK[one]}$" if one in GREEK else SPECIAL.get(one, one) for one in raised)
    return letters.replace("\0", "$^{").replace("\1", "}$")
