"""Tables of a grid study: every method in every setting, in both accountings, beside the printed numbers.

Two accountings, from the same runs: `during` counts the reward of the N episodes in which a method adapts (step 0 of
the records), `adapted` that of N episodes of the adapted policy (step 1; of a method that never stops learning, the N
episodes after the first N).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from harness.errors import UserError
from reports.export import own_columns
from reports.papers.beside import Accounting, GridComparison, PrintedColumn
from reports.papers.printed import ResultRow, ResultsTable
from reports.papers.published import Published
from reports.statistics import prediction_interval, prediction_of_mean, t_interval, task_interval
from reports.study_info import Scalar, SettingInfo
from reports.tables import done, protocols

STEPS: dict[Accounting, int] = {"during": 0, "adapted": 1}
NAN = float("nan")


@dataclass(frozen=True)
class Grid:
    """A grid study's evidence, and what its numbers are measured in.

    evidence:   the frame of `reports.export.evidence`, one study and scale
    comparison: the printed table beside it; None where none is declared
    value:      `total` reward of N episodes, `fraction_of_optimum` (per task, then averaged), or the `mean` return
    episodes:   setting -> N
    """

    evidence: pd.DataFrame
    settings: tuple[SettingInfo, ...]
    labels: tuple[str, ...]
    comparison: GridComparison | None
    printed: ResultsTable | None
    value: Literal["total", "fraction_of_optimum", "mean"]
    protocol: str
    episodes: Mapping[str, int]

    @property
    def digits(self) -> int:
        """Decimals of our numbers."""
        return 3 if self.value == "fraction_of_optimum" else 2

    @property
    def printed_digits(self) -> int:
        """Decimals of the printed numbers: the most that any of them has."""
        printed = self.printed.decimals if self.printed else None
        return self.digits if printed is None else printed

    def factor(self, setting: str) -> float:
        """What a mean return per episode is multiplied by to be in the units of the table, other than fractions."""
        return self.episodes[setting] if self.value == "total" else 1

    def cell(self, printed_name: str, setting: SettingInfo) -> ResultRow | None:
        """The printed row of a column in a setting; None where there is none."""
        if self.printed is None or self.comparison is None:
            return None
        return self.printed.cell(printed_name, {**setting.columns, **self.comparison.where})

    def reference(self, setting: str, name: str) -> float:
        """The mean of a reference over the setting's test tasks, per episode; NaN where it is not known."""
        if name not in self.evidence:
            return NAN
        values = self.evidence.loc[self.evidence["setting"].eq(setting), name].dropna()
        return float(values.iloc[0]) if len(values) else NAN


def grid_of(
    evidence: pd.DataFrame,
    settings: Sequence[SettingInfo],
    labels: Sequence[str],
    published: Published,
    study: str,
    comparison: GridComparison | None = None,
) -> Grid:
    """The grid of a study: beside `comparison`, by default the first that is declared for it.

    A study for which none is declared (a user's own) is measured as the suite's first comparison says, under that one's
    protocol if it has it.
    """
    comparison = comparison or next(iter(published.grids_of(study)), None)
    model = comparison or next(iter(published.grid_comparisons), None)
    protocol = model.protocol if model else ""
    if comparison is None:
        protocol = next(iter(protocols(evidence, first=protocol)), protocol)
    names = {setting.name for setting in settings}
    return Grid(
        evidence=evidence[evidence["setting"].isin(names)].reset_index(drop=True),
        settings=tuple(settings),
        labels=tuple(labels),
        comparison=comparison,
        printed=published.results(comparison.paper, comparison.table) if comparison else None,
        value=model.value if model else "mean",
        protocol=protocol,
        episodes={setting.name: _episodes(setting, model, evidence) for setting in settings},
    )


def _episodes(setting: SettingInfo, comparison: GridComparison | None, evidence: pd.DataFrame) -> int:
    """N of a setting: as its columns or the comparison say, else the number of episodes that were recorded.

    Errors: UserError where the two differ; totals would be of another N than the runs had.
    """
    recorded = evidence.loc[evidence["setting"].eq(setting.name), "episodes"].dropna()
    if comparison:
        name, known = comparison.episodes_column, {**comparison.where, **setting.columns}
        if name in known:
            if len(recorded) and set(recorded) != {known[name]}:
                raise UserError(
                    f"setting {setting.name} has {name} = {known[name]} among its columns, but its runs have "
                    f"{int(recorded.iloc[0])} episodes per task at meta-test; make the two agree in the study file"
                )
            return int(known[name])
    return int(recorded.iloc[0]) if len(recorded) else 1


def settings_of(evidence: pd.DataFrame) -> tuple[SettingInfo, ...]:
    """The settings of an evidence frame with their columns, ordered by them."""
    columns = own_columns(evidence)
    rows = evidence[["setting", *columns]].drop_duplicates("setting").sort_values([*columns, "setting"])
    return tuple(
        SettingInfo(str(row["setting"]), {name: _plain(row[name]) for name in columns})
        for row in rows.to_dict("records")
    )


def _plain(value: Any) -> Scalar:
    return value.item() if hasattr(value, "item") else value


def scores(grid: Grid) -> pd.DataFrame:
    """The evidence of finished runs with `accounting`, `score` and `sd_score` (over tasks), in the table's units.

        total: N · mean_return,   fraction_of_optimum: 1/T Σ_i R_i / R*_i

    The adapted policy is that after the last step of its setting. Rows without a score (a fraction where no optimum was
    recorded) are left out.
    """
    rows = done(grid.evidence, grid.protocol)
    last = rows.groupby("setting")["step"].transform("max")
    rows = rows[rows["step"].eq(STEPS["during"]) | rows["step"].eq(last)]
    accounting = rows["step"].eq(STEPS["during"]).map({True: "during", False: "adapted"})
    if grid.value == "fraction_of_optimum":
        missing = pd.Series(NAN, index=rows.index)
        score, sd = rows.get("fraction_of_optimum", missing), rows.get("sd_fraction_over_tasks", missing)
    else:
        factor = rows["setting"].map(grid.factor)
        score, sd = rows["mean_return"] * factor, rows["sd_over_tasks"] * factor
    table = rows.assign(accounting=accounting, score=score.astype("float64"), sd_score=sd.astype("float64"))
    return table[table["score"].notna()].reset_index(drop=True)


def summary(grid: Grid) -> pd.DataFrame:
    """Our numbers, one row per setting, method and accounting.

    mean, sd_over_seeds, low, high: over training seeds (95 % t interval); predict_*: one more seed on these test tasks;
    task_*: 95 % interval across tasks, with the mean over seeds of their SD; reward_*: return per episode with its
    interval over seeds.
    """
    rows = []
    for (setting, method, accounting), group in scores(grid).groupby(["setting", "method", "accounting"], sort=True):
        interval, reward = t_interval(group["score"]), t_interval(group["mean_return"])
        predicted, tasks = prediction_interval(group["score"]), int(group["tasks"].min())
        across = task_interval(interval.mean, float(group["sd_score"].mean()), tasks)
        rows.append(
            {
                "setting": setting, "method": method, "accounting": accounting, "mean": interval.mean,
                "sd_over_seeds": interval.sd, "low": interval.low, "high": interval.high, "seeds": interval.n,
                "predict_low": predicted[0], "predict_high": predicted[1], "task_low": across[0],
                "task_high": across[1], "sd_over_tasks": group["sd_score"].mean(), "tasks": tasks,
                "reward": reward.mean, "reward_low": reward.low, "reward_high": reward.high,
            }
        )  # fmt: skip
    columns = ["setting", "method", "accounting", "mean", "sd_over_seeds", "low", "high", "seeds", "predict_low"]
    columns += [
        "predict_high",
        "task_low",
        "task_high",
        "sd_over_tasks",
        "tasks",
        "reward",
        "reward_low",
        "reward_high",
    ]
    return pd.DataFrame(rows, columns=columns)


def beside_printed(grid: Grid) -> pd.DataFrame:
    """The printed table beside ours: a row per setting and method, then one per printed column that we do not rerun.

    paper_*: as printed; during_*, adapted_*: as in `summary`; difference: ours minus the printed mean, in the printed
    column's accounting; predict_*: one more seed of ours on these test tasks, printed_*: the mean of as many seeds and
    fresh test tasks as the paper's, which paper_inside refers to; gap_*: optimum minus ours; paper_gap: the
    expected optimum minus the printed mean.
    """
    ours: dict[tuple[str, str, str], dict[Any, Any]] = {
        (r["setting"], r["method"], r["accounting"]): r for r in summary(grid).to_dict("records")
    }
    columns = grid.comparison.methods if grid.comparison else {}
    table = scores(grid)
    rows = []
    for setting in grid.settings:
        names = [(label, grid.comparison.printed_name(label) if grid.comparison else None) for label in grid.labels]
        names += [("", printed) for printed, column in columns.items() if not set(column.labels) & set(grid.labels)]
        for label, printed in names:
            mine: dict[Accounting, dict[Any, Any]] = {name: ours.get((setting.name, label, name), {}) for name in STEPS}
            row: dict[str, Any] = {
                "setting": setting.name,
                **setting.columns,
                "method": label,
                "printed_as": printed or "",
            }
            row |= _printed_part(grid, setting, printed)
            row |= _our_part(grid, setting.name, mine)
            if label and printed:
                values = table[table["setting"].eq(setting.name) & table["method"].eq(label)]
                row |= _difference(columns[printed], row["paper_mean"], 0.5 * 10.0**-grid.printed_digits, mine, values)
            rows.append(row)
    return pd.DataFrame(rows)


def _printed_part(grid: Grid, setting: SettingInfo, printed: str | None) -> dict[str, Any]:
    cell = grid.cell(printed, setting) if printed else None
    column = grid.comparison.methods[printed] if printed and grid.comparison else None
    mean = cell.mean if cell and cell.mean is not None else NAN
    expected = grid.reference(setting.name, "expected_optimal_return") * grid.factor(setting.name)
    return {
        "accounting": column.accounting if column else "",
        "paper_mean": mean,
        "paper_ci95": cell.ci95 if cell and cell.ci95 is not None else NAN,
        "paper_note": (cell.note or "") if cell else "",
        "paper_origin": grid.printed.origin(printed) if grid.printed and printed else "",
        "paper_gap": expected - mean if grid.value == "total" else NAN,
    }


def _our_part(grid: Grid, setting: str, mine: Mapping[Accounting, dict[Any, Any]]) -> dict[str, Any]:
    """Both accountings of a cell, and the optimum on its test tasks."""
    optimum = grid.reference(setting, "optimal_return") * grid.factor(setting)
    if grid.value == "fraction_of_optimum":
        optimum = 1.0 if optimum > 0 else NAN
    row: dict[str, Any] = {"seeds": max((int(part.get("seeds", 0)) for part in mine.values()), default=0)}
    shown = ("mean", "sd_over_seeds", "low", "high", "task_low", "task_high", "reward", "reward_low", "reward_high")
    for name, part in mine.items():
        row |= {f"{name}_{key}": part.get(key, NAN) for key in shown}
    row |= {"optimum": optimum} | {f"gap_{name}": optimum - part.get("mean", NAN) for name, part in mine.items()}
    empty = dict.fromkeys(("difference", "predict_low", "predict_high", "printed_low", "printed_high"), NAN)
    return row | empty | {"paper_inside": ""}


def _difference(
    column: PrintedColumn,
    printed: float,
    rounding: float,
    mine: Mapping[Accounting, dict[Any, Any]],
    values: pd.DataFrame,
) -> dict[str, Any]:
    """Ours against the printed mean, in the printed accounting; nothing where that is unknown or we have no number.

    Inside means: one of the numbers that round to the printed one, up to ``rounding`` away, lies in the interval.
    """
    if column.accounting == "unknown" or not mine[column.accounting]:
        return {}
    part = mine[column.accounting]
    low, high = prediction_of_mean(
        values.loc[values["accounting"].eq(column.accounting), "score"],
        column.seeds,
        sd_over_tasks=part["sd_over_tasks"] if part["tasks"] > 1 else 0.0,
        tasks=part["tasks"] if part["tasks"] > 1 else None,
        further_tasks=column.tasks,
    )
    row = {key: part[key] for key in ("predict_low", "predict_high")} | {"printed_low": low, "printed_high": high}
    known = not pd.isna(printed) and not pd.isna(low)
    inside = ("yes" if low - rounding <= printed <= high + rounding else "no") if known else ""
    return row | {"difference": part["mean"] - printed, "paper_inside": inside}
