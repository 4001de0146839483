"""From one set-up to another, one factor at a time: what every factor is worth, paired by training seed.

    effect of rung k:   1/S Σ_s (x_{k,s} - x_{k-1,s})      going up, in the presence of the factors before it
    worth of factor f:  1/S Σ_s (x_{full,s} - x_{-f,s})    taken out of the full set-up alone

x: a seed's mean return over the meta-test tasks; s: the seeds that both sides have. A rung may be another meta-test
protocol of the same trained models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from reports.attachments import Attachments
from reports.display import Column, count, interval, p, shown
from reports.exhibits import ladder_figures as figures
from reports.exhibits.source import Part, Source, interval_columns
from reports.papers.exhibits import LadderExhibit, Rung
from reports.statistics import holm, paired_t
from reports.tables import NO_NUMBER, done, mean_and_sd, number


def part(files: Attachments, exhibit: LadderExhibit, source: Source) -> Part:
    """The waterfall, what each factor is worth, and both as tables; without both ends, none."""
    up = rungs(source.evidence, exhibit.rungs, exhibit.step)
    out = dropped(source.evidence, exhibit)
    if up.empty:
        return Part()
    ends = printed_ends(exhibit, source)
    title = f"return after {exhibit.step} updates"
    svg = figures.waterfall(up, (ends[0].get(exhibit.step), ends[1].get(exhibit.step)), title)
    alt = "A bar per rung from the lower end to the upper end, with the 95 % interval of its paired effect."
    caption = (
        "each bar is what its factor adds to all that stand before it, from the mean of the rung before to its own, "
        "both over the seeds that the two share, with the 95 % t interval of the paired difference; bars do not meet "
        "where seeds differ; grey: the ends, over all of their seeds; dotted: the printed returns of both"
    )
    made = Part(figures=[files.figure(f"{source.name}_waterfall", svg, alt) | {"caption": caption}])
    made.tables.append(_up_table(files, exhibit, source, up))
    if len(out):
        svg = figures.worth(out, f"worth of a factor: {title}, full minus without")
        alt = "A dot per factor with its 95 % interval: the full set-up minus the one without the factor."
        caption = "what the full set-up has over the one without the factor; paired by seed, 95 % t interval"
        made.figures.append(files.figure(f"{source.name}_dropped", svg, alt) | {"caption": caption})
        made.tables.append(_out_table(files, exhibit, source, out))
    made.sentences += sentences(exhibit, up, ends)
    made.sentences += unfinished(source.evidence, exhibit)
    return made


def rungs(evidence: pd.DataFrame, ladder: Sequence[Rung], step: int) -> pd.DataFrame:
    """A row per rung: its return over seeds after every update, and its effect at `step` over the rung before.

    return_<k>_mean, _sd: over seeds after k updates. level_*: at `step`. effect_mean, _low, _high, p: paired by seed
    with the rung before, whose mean over these seeds is before_mean; NaN for the first. p_holm: over all rungs; share:
    of the sum of effects.
    Rungs without a finished run are left out; the next one is then compared with the last that has one.
    """
    rows: list[dict[str, Any]] = []
    before: pd.Series | None = None
    for rung in ladder:
        seeds = of_seeds(evidence, rung)
        if step not in seeds.columns or seeds[step].dropna().empty:
            continue
        row = {"factor": rung.factor, "method": rung.method, "protocol": rung.protocol} | _returns(seeds, step)
        rows.append(row | (_effect(seeds[step], before) if before is not None else _effect(None, None)))
        before = seeds[step]
    table = pd.DataFrame(rows)
    return table if table.empty else _with_shares(table)


def dropped(evidence: pd.DataFrame, exhibit: LadderExhibit) -> pd.DataFrame:
    """A row per factor that is taken out: the return without it, and what the full set-up has over that."""
    full = of_seeds(evidence, exhibit.full)
    if exhibit.step not in full.columns:
        return pd.DataFrame()
    rows = []
    for rung in exhibit.dropped:
        seeds = of_seeds(evidence, rung)
        if exhibit.step in seeds.columns and not seeds[exhibit.step].dropna().empty:
            row = {"factor": rung.factor, "method": rung.method, "protocol": rung.protocol}
            row |= _returns(seeds, exhibit.step)
            rows.append(row | _effect(full[exhibit.step], seeds[exhibit.step]))
    table = pd.DataFrame(rows)
    return table if table.empty else table.assign(p_holm=holm(list(table["p"].astype("float64"))))


def of_seeds(evidence: pd.DataFrame, rung: Rung) -> pd.DataFrame:
    """Mean return of a rung's finished runs: a row per seed, a column per adaptation step."""
    mine = done(evidence, rung.protocol)
    mine = mine[mine["method"].eq(rung.method)]
    return mine.pivot_table(index="seed", columns="step", values="mean_return")


def _returns(seeds: pd.DataFrame, step: int) -> dict[str, Any]:
    row: dict[str, Any] = {"seeds": int(seeds[step].notna().sum())}
    for k in seeds.columns:
        row |= interval_columns(seeds[k].dropna(), f"return_{int(k)}_")
    return row | interval_columns(seeds[step].dropna(), "level_")


def _effect(after: pd.Series | None, before: pd.Series | None) -> dict[str, Any]:
    """The paired difference, NaN where there is nothing to compare with; equal runs differ by 0 without interval."""
    names = ("effect_mean", "effect_low", "effect_high", "before_mean", "p")
    row: dict[str, Any] = dict.fromkeys(names, np.nan) | {"pairs": 0, "why": ""}
    if after is None or before is None:
        return row
    pairs = pd.concat([after, before], axis=1, keys=["after", "before"]).dropna()
    row["pairs"] = len(pairs)
    if len(pairs):
        row["before_mean"] = float(pairs["before"].mean())
        row["effect_mean"] = float((pairs["after"] - pairs["before"]).mean())
    try:
        test = paired_t(pairs["after"], pairs["before"])
    except ValueError as reason:
        return row | {"why": str(reason)}
    return row | {"effect_low": test.low, "effect_high": test.high, "p": test.p}


def _with_shares(table: pd.DataFrame) -> pd.DataFrame:
    gap = table["effect_mean"].sum()
    shares = table["effect_mean"] / gap if gap else table["effect_mean"] * np.nan
    return table.assign(p_holm=holm(list(table["p"].astype("float64"))), share=shares)


def printed_ends(exhibit: LadderExhibit, source: Source) -> tuple[dict[int, float], dict[int, float]]:
    """Printed mean returns of the lower and of the upper end, by adaptation step; {} where nothing is printed."""

    def rows(end: Any) -> dict[int, float]:
        if end is None or source.published is None:
            return {}
        table = source.published.results(end.paper, end.table)
        return {
            int(row.setting["iteration"]): row.mean
            for row in table.rows
            if row.method == end.method and row.mean is not None
        }

    return rows(exhibit.printed_lower), rows(exhibit.printed_upper)


def sentences(exhibit: LadderExhibit, up: pd.DataFrame, ends: tuple[dict[int, float], dict[int, float]]) -> list[str]:
    """What the ladder says, computed: the gap, the largest effects, and whether the printed upper end is reached."""
    step, lower, upper = exhibit.step, up.iloc[0], up.iloc[-1]
    gap = upper["level_mean"] - lower["level_mean"]
    said = [
        f"After {step} updates the lower end is at {number(lower['level_mean'], 2)} ({lower['seeds']} seeds) and the "
        f"last rung at {number(upper['level_mean'], 2)} ({upper['seeds']}): a gap of {number(gap, 2)}."
    ]
    known = up[up["p_holm"].lt(0.05)].sort_values("effect_mean", key=lambda x: -x.abs(), kind="stable")
    if len(known):
        listed = "; ".join(f"{row['factor']} {_signed(row)}" for _, row in known.iterrows())
        said.append(f"Effects that are told from chance after Holm’s adjustment, the largest first: {listed}.")
    else:
        said.append("No single effect is told from chance after Holm’s adjustment.")
    said.append(_power(up))
    if step in ends[1]:
        said.append(_reached(exhibit, up, ends[1][step]))
    return said


def _reached(exhibit: LadderExhibit, up: pd.DataFrame, printed: float) -> str:
    """Which rung is nearest to the printed number, and whose prediction interval of one more seed has it inside."""
    step = exhibit.step
    away = up["level_mean"].sub(printed).abs()
    inside, near, last = up[away.le(_half_prediction(up))], up.iloc[int(away.to_numpy().argmin())], up.iloc[-1]
    left = f"the last rung differs from it by {number(last['level_mean'] - printed, 2)}"
    if inside.empty:
        return (
            f"The printed {number(printed, 2)} after {step} updates lies in no rung’s 95 % prediction interval of one "
            f"more seed; {left}."
        )
    return (
        f"The printed {number(printed, 2)} after {step} updates is nearest to the rung “{near['factor']}” "
        f"({number(near['level_mean'], 2)}, {near['seeds']} seeds); {left}. The 95 % prediction interval of one more "
        f"seed, which is wide where seeds are few, does not exclude it at: {', '.join(inside['factor'])}."
    )


def _power(up: pd.DataFrame) -> str:
    """What it takes for an effect to be told from chance: with few pairs, Holm's first step is nearly out of reach."""
    tested = up[up["p"].notna()]
    if tested.empty:
        return "Nothing can be tested with fewer than two pairs."
    pairs, tests = int(tested["pairs"].min()), len(tested)
    needed = float(stats.t.ppf(1 - 0.025 / tests, pairs - 1))
    return (
        f"With {pairs} pairs and {tests} tests the most certain effect has to be {needed:.1f} times its standard "
        "error: the intervals, which are not adjusted, say more than these words."
    )


def _half_prediction(up: pd.DataFrame) -> pd.Series:
    """Half the width of the prediction interval of one more seed: of the mean's interval, times √(n + 1)."""
    half = (up["level_high"] - up["level_low"]) / 2
    return half * np.sqrt(up["seeds"].astype(float) + 1.0)


def _signed(row: Any) -> str:
    ends = f"[{number(row['effect_low'], 2)}, {number(row['effect_high'], 2)}]"
    return f"{row['effect_mean']:+.2f} {ends}".replace("-", "−")


def unfinished(evidence: pd.DataFrame, exhibit: LadderExhibit) -> list[str]:
    """A sentence about runs of the ladder that have no numbers, or rungs without any."""
    methods = {rung.method for rung in (*exhibit.rungs, *exhibit.dropped, exhibit.full)}
    mine = evidence[evidence["method"].isin(methods)]
    said = []
    for (method, status), rows in mine[mine["status"].ne("done")].groupby(["method", "status"]):
        seeds = ", ".join(str(seed) for seed in sorted(set(rows["seed"])))
        said.append(f"{method}: seed {seeds} {status}; it has no part in the means.")
    missing = sorted(methods - set(done(evidence)["method"]))
    return said + ([f"Without a finished run: {', '.join(missing)}."] if missing else [])


def _up_table(files: Attachments, exhibit: LadderExhibit, source: Source, up: pd.DataFrame) -> dict[str, Any]:
    columns = [*_levels(up), _effects("effect"), p("p", "p"), p("p, Holm", "p_holm")]
    columns += [Column("share of the gap", lambda row: _percent(row["share"])), count("pairs", "pairs")]
    title = f"Upwards: return after every update (mean ± SD over seeds), and the effect after {exhibit.step} updates"
    tests = int(up["p"].notna().sum())
    note = f"Paired t-tests over training seeds; Holm’s adjustment is over the {tests} rungs. A share is a ratio of "
    note += "means, whose ends are uncertain as well: it has no interval."
    return shown(files, f"{source.name}_rungs", up, "factor", columns, title) | {"note": note}


def _out_table(files: Attachments, exhibit: LadderExhibit, source: Source, out: pd.DataFrame) -> dict[str, Any]:
    columns = [*_levels(out), _effects("worth"), p("p", "p"), p("p, Holm", "p_holm"), count("pairs", "pairs")]
    title = f"Without one factor: return after every update, and what the full set-up has over it after {exhibit.step}"
    note = f"Paired t-tests over training seeds; Holm’s adjustment is over the {int(out['p'].notna().sum())} factors."
    return shown(files, f"{source.name}_without", out, "factor", columns, title) | {"note": note}


def _levels(table: pd.DataFrame) -> list[Column]:
    steps = sorted(int(name.split("_")[1]) for name in table.columns if name.startswith("return_") and "mean" in name)
    return [
        count("seeds", "seeds"),
        *(_level(k) for k in steps),
    ]


def _level(step: int) -> Column:
    return Column(f"{step} updates", lambda row: _mean_sd(row, f"return_{step}_"))


def _effects(head: str) -> Column:
    return interval(head, "effect_", 2, strong=True)


def _mean_sd(row: Any, prefix: str) -> str:
    return mean_and_sd(row.get(f"{prefix}mean"), row.get(f"{prefix}sd"))


def _percent(share: float) -> str:
    return NO_NUMBER if pd.isna(share) else f"{100 * share:.0f} %".replace("-", "−")
