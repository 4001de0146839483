"""What one training seed alone would have concluded, and how often: the paper's own test on every seed of ours.

The test of one seed is over the meta-test tasks of two trained models, so it is conditional on these models. The share
of seeds with a conclusion is over training seeds, with the exact interval of a binomial proportion
(Clopper & Pearson 1934).
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from scipy import stats

from reports.attachments import Attachments
from reports.canvas import GREY, PALETTE, drawing, legend, subplots, svg_text
from reports.comparisons import task_tests
from reports.display import Column, shown, text
from reports.exhibits.source import Part, Source
from reports.papers.exhibits import SingleSeedsExhibit

FOR, NOTHING, AGAINST = "in favour", "no difference", "against"
COLOURS = {FOR: PALETTE[3], NOTHING: GREY, AGAINST: PALETTE[5]}


def part(files: Attachments, exhibit: SingleSeedsExhibit, source: Source) -> Part:
    """Table, figure and sentence of one setting; without a seed that both methods finished, none."""
    found = conclusions(source.evidence, exhibit)
    if found.empty:
        return Part()
    table = shares(found)
    alt = "A stacked bar per adaptation step: how many single seeds find a difference in favour, none, or against."
    caption = f"{exhibit.first} against {exhibit.second}: the paper’s test on each seed alone, α = {exhibit.alpha:g}"
    made = Part(figures=[files.figure(f"{source.name}_seeds", figure(table), alt) | {"caption": caption}])
    columns = [text("seeds", "seeds"), *(_column(outcome) for outcome in COLOURS)]
    note = (
        "Every test is conditional on one pair of trained models. Shares are over training seeds, with the exact "
        "interval of a proportion (Clopper and Pearson)."
    )
    title = "How many single seeds conclude what"
    made.tables.append(shown(files, source.name, table, "when", columns, title) | {"note": note})
    made.sentences.append(sentence(table, exhibit))
    return made


def conclusions(evidence: pd.DataFrame, exhibit: SingleSeedsExhibit) -> pd.DataFrame:
    """A row per training seed, a column per step of the exhibit: FOR, NOTHING or AGAINST.

    The test is :func:`reports.statistics.conservative_t`, two-sided, on the seed's mean and SD over tasks. Seeds that
    lack a step are left out.
    """
    tests = task_tests(evidence, [(exhibit.first, exhibit.second)], exhibit.protocol)
    tests = tests[tests["step"].isin(exhibit.steps)]
    if tests.empty:
        return pd.DataFrame()

    def word(row: Any) -> str:
        if not row["p"] < exhibit.alpha:
            return NOTHING
        return FOR if row["difference"] > 0 else AGAINST

    words = tests.assign(word=[word(row) for row in tests.to_dict("records")])
    return words.pivot(index="seed", columns="step", values="word").reindex(columns=exhibit.steps).dropna()


def shares(found: pd.DataFrame) -> pd.DataFrame:
    """A row per step, one for every step at once, and one for any: number of seeds with each outcome."""
    rows = [_counted(f"after {step} updates", found[step]) for step in found.columns]
    if len(found.columns) > 1:
        rows.append(_counted("at every one of these steps", found.apply(_same, axis=1)))
    return pd.DataFrame(rows)


def _same(words: pd.Series) -> str:
    """The outcome that all steps share; "" where they differ."""
    return str(words.iloc[0]) if words.nunique() == 1 else ""


def _counted(when: str, words: pd.Series) -> dict[str, Any]:
    row: dict[str, Any] = {"when": when, "seeds": len(words)}
    for outcome in COLOURS:
        count = int(words.eq(outcome).sum())
        interval = stats.binomtest(count, len(words)).proportion_ci(0.95, method="exact")
        row |= {outcome: count, f"{outcome}_low": float(interval.low), f"{outcome}_high": float(interval.high)}
    return row


def sentence(table: pd.DataFrame, exhibit: SingleSeedsExhibit) -> str:
    """How many seeds give the paper's conclusion, and how many find nothing at all."""
    last = table.iloc[-1].to_dict()
    steps = ", ".join(str(step) for step in exhibit.steps)
    return (
        f"Of {last['seeds']} training seeds, taken alone, {_share(last, FOR)} find {exhibit.first} ahead of "
        f"{exhibit.second} after each of {steps} updates, and {_share(last, NOTHING)} no difference after any of them."
    )


def figure(table: pd.DataFrame) -> str:
    """A stacked bar per row of the table."""
    with drawing():
        drawn, axes = subplots(1, 1, (5.6, 0.36 * len(table) + 1.2))
        axis = axes[0, 0]
        left = [0.0] * len(table)
        for outcome, colour in COLOURS.items():
            counts = table[outcome].astype(float).tolist()
            axis.barh(range(len(table)), counts, left=left, color=colour, height=0.62, label=outcome)
            left = [start + count for start, count in zip(left, counts, strict=True)]
        axis.set_yticks(range(len(table)), table["when"])
        axis.set_ylim(len(table) - 0.45, -0.55)
        axis.set_xlabel("training seeds", fontsize=9)
        axis.grid(visible=False, axis="y")
        legend(drawn, axis)
        return svg_text(drawn)


def _column(outcome: str) -> Column:
    return Column(outcome, lambda row: _share(row, outcome), strong=outcome == FOR)


def _share(row: Any, outcome: str) -> str:
    """``12 (60 % [36, 81])``."""
    count, seeds = int(row[outcome]), int(row["seeds"])
    low, high = 100 * row[f"{outcome}_low"], 100 * row[f"{outcome}_high"]
    return f"{count} ({100 * count / seeds:.0f} % [{low:.0f}, {high:.0f}])"
