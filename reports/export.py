"""Committed evidence: one row per run, protocol and adaptation step, as a small sorted CSV with its provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness.errors import UserError
from harness.files import read_json, sha256, write_atomic, write_json
from reports.records import STATUSES, Records
from reports.study_info import Scalar

COLUMNS = [
    "study", "suite", "setting", "scale", "method", "seed", "protocol", "step", "mean_return", "sd_over_tasks", "tasks",
    "episodes", "status", "run_id", "code_version",
]  # fmt: skip
FRACTIONS = ["fraction_of_optimum", "sd_fraction_over_tasks"]
_RUN_PART = ["study", "suite", "setting", "scale", "method", "seed", "status", "run_id", "code_version"]
_COUNTS = ["step", "tasks", "episodes"]
_ORDER = ["study", "setting", "scale", "method", "seed", "protocol", "step", "run_id"]


def evidence(records: Records, columns: Mapping[str, Mapping[str, Scalar]]) -> pd.DataFrame:
    """Summarise every run over its meta-test tasks.

        mean_return = 1/T Σ_i R_i,   sd_over_tasks² = Σ_i (R_i - mean_return)² / (T - 1)
        fraction_of_optimum = 1/T Σ_i R_i / R*_i,   sd_fraction_over_tasks: its SD over tasks, with T - 1

    R_i is the mean undiscounted return of meta-test task i over its episodes, R*_i the task's `optimal_return`;
    fractions are there only where every R*_i of the run is positive. `episodes` is the number per task (the smallest).
    A run without returns (diverged, failed, still running) keeps one row with an empty protocol, step and numbers, so
    that it is never dropped in silence. Numbers are rounded to the six decimals of the file.

    columns: setting -> the study's own columns (N, K, ...), which stand after `setting`; may be empty. What is known
    exactly about the tasks stands after `episodes`: a column per name, its mean over the run's tasks. What the suite
    measures beyond the return stands last: a column per name, the mean over the tasks. Columns without any number are
    left out.
    Errors: UserError for a setting without its columns, settings with different ones, or a name that is taken.
    """
    returns = _with_fractions(records)
    groups = returns.groupby(["run_id", "protocol", "step"], sort=True)
    summary = groups.agg(
        mean_return=("mean_return", lambda x: x.mean(skipna=False)),
        sd_over_tasks=("mean_return", lambda x: x.std(ddof=1, skipna=False)),
        tasks=("task", "nunique"),
        episodes=("episodes", "min"),
        fraction_of_optimum=("fraction", lambda x: x.mean(skipna=False)),
        sd_fraction_over_tasks=("fraction", lambda x: x.std(ddof=1, skipna=False)),
    ).reset_index()
    means = records.references.pivot_table(index="run_id", columns="name", values="value", aggfunc="mean")
    references = [str(name) for name in means.columns]
    _refuse_taken_names([*_names(columns), *references, *sorted(records.measures["name"].unique())])
    merged = records.runs[_RUN_PART].merge(summary, on="run_id", how="left", validate="one_to_many")
    merged = merged.merge(means.reset_index(), on="run_id", how="left", validate="many_to_one")
    merged = _with_measures(merged, records.measures)
    merged["protocol"] = merged["protocol"].fillna("").astype(str)
    own = _own_columns(merged["setting"], columns)
    known = [name for name in (*references, *FRACTIONS) if merged[name].notna().any()]
    measures = sorted(name for name in records.measures["name"].unique() if merged[name].notna().any())
    return _typed(merged.assign(**own), list(own), known, measures)


def _with_measures(table: pd.DataFrame, measures: pd.DataFrame) -> pd.DataFrame:
    """The table with a column per measure: its mean over the tasks."""
    if measures.empty:
        return table
    keys = ["run_id", "protocol", "step"]
    rows = measures.astype({"value": "float64"})
    means = rows.groupby([*keys, "name"], sort=True)["value"].agg(lambda x: x.mean(skipna=False)).unstack("name")
    return table.merge(means.reset_index(), on=keys, how="left", validate="many_to_one")


def _with_fractions(records: Records) -> pd.DataFrame:
    """The returns, with `fraction`: a task's return divided by its optimum, NaN unless all the run's are positive."""
    known = records.references[records.references["name"].eq("optimal_return")]
    positive = known.groupby("run_id")["value"].transform("min").gt(0)
    optimum = known[positive][["run_id", "task", "value"]].rename(columns={"value": "optimum"})
    table = records.returns.merge(optimum, on=["run_id", "task"], how="left", validate="many_to_one")
    return table.assign(fraction=table["mean_return"] / table["optimum"].astype("float64"))


def _own_columns(settings: pd.Series, columns: Mapping[str, Mapping[str, Scalar]]) -> dict[str, list[Scalar]]:
    """The study's own columns, a value per row of the evidence."""
    names = _names(columns)
    if not names:
        return {}
    for setting in dict.fromkeys([*columns, *settings]):
        if list(columns.get(setting, {})) != names:
            raise UserError(
                f"setting {setting} does not have the columns {', '.join(names)}, which other settings have"
            )
    return {name: [columns[setting][name] for setting in settings] for name in names}


def _names(columns: Mapping[str, Mapping[str, Scalar]]) -> list[str]:
    return list(next(iter(columns.values()), {})) if any(columns.values()) else []


def _refuse_taken_names(names: list[str]) -> None:
    taken = [*COLUMNS, *FRACTIONS]
    for name in names:
        if name in taken:
            raise UserError(
                f"the column {name!r} occurs twice in the evidence; name the study's own column differently"
            )
        taken.append(name)


def _typed(frame: pd.DataFrame, own: list[str], known: list[str], measures: list[str]) -> pd.DataFrame:
    frame = frame.astype(dict.fromkeys(_COUNTS, "Int64") | {"seed": "int64"})
    for name in ("mean_return", "sd_over_tasks", *known, *measures):
        frame[name] = frame[name].astype("float64").round(6)
    after_setting, after_episodes = COLUMNS.index("setting") + 1, COLUMNS.index("episodes") + 1
    order = [
        *COLUMNS[:after_setting],
        *own,
        *COLUMNS[after_setting:after_episodes],
        *known,
        *COLUMNS[after_episodes:],
        *measures,
    ]
    return frame.sort_values(_ORDER, kind="stable", ignore_index=True)[order]


def own_columns(evidence: pd.DataFrame) -> list[str]:
    """The study's own columns of an evidence frame: those between `setting` and `scale`; [] where there are none."""
    names = list(evidence.columns)
    return names[names.index("setting") + 1 : names.index("scale")]


def measure_columns(evidence: pd.DataFrame) -> list[str]:
    """The suite's measures in an evidence frame: what stands after the columns of every study."""
    names = list(evidence.columns)
    return names[names.index(COLUMNS[-1]) + 1 :]


def read_evidence(path: Path) -> pd.DataFrame:
    """Read an evidence file that `write_evidence` wrote, with whatever columns of its own it has.

    Errors: UserError where the file is missing, lacks a column or holds text in place of a number.
    """
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        own = own_columns(frame)
        further = [name for name in frame.columns if name not in (*COLUMNS, *own)]
        measures = measure_columns(frame)
        known = [name for name in further if name not in measures]
        frame = frame.astype({"seed": "int64"})
        for name in (*_COUNTS, "mean_return", "sd_over_tasks", *further):
            frame[name] = pd.to_numeric(frame[name].replace("", None))
        for name in own:
            frame[name] = _parsed(frame[name])
        return _typed(frame, own, known, measures)
    except OSError:
        raise UserError(f"no evidence at {path}; `metarepro export` makes it from recorded runs") from None
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not an evidence file ({error}); `metarepro export` makes it") from None


def _parsed(texts: pd.Series) -> pd.Series:
    """A column of a study as it was before it became text: truth values, numbers, or else the text."""
    if texts.isin(["True", "False"]).all():
        return texts.eq("True")
    try:
        return pd.to_numeric(texts)
    except ValueError:
        return texts


def evidence_csv(frame: pd.DataFrame) -> str:
    """The text of an evidence file: six decimals, so that a change shows up as a change of lines.

    The study's own columns are written in full, as Python prints them.
    """
    own = {name: frame[name].map(str) for name in own_columns(frame)}
    return frame.assign(**own).to_csv(index=False, float_format="%.6f", lineterminator="\n")


def write_evidence(
    records: Records,
    path: Path,
    command: str,
    columns: Mapping[str, Mapping[str, Scalar]],
    beside: Mapping[str, str] | None = None,
    adopt: Mapping[str, Mapping[str, str]] | None = None,
) -> Path:
    """Write the evidence CSV and `<name>.provenance.json` beside it, each atomically; returns the path of the CSV.

    columns: as for `evidence`. beside: ending of the name -> text of further CSV files of the same runs, such as
    "_paths"; their hashes are in the same provenance. adopt: run_id -> what this study calls the run; those that the
    records lack are taken from other evidence in the folder, where it has them.
    """
    frame, taken = evidence(records, columns), dict[str, Any]()
    if adopt:
        frame, taken = adopted(frame, adopt, columns, path)
    text = evidence_csv(frame)
    write_atomic(path, text.encode())
    facts = provenance(records, text, command) | taken
    for ending, content in sorted((beside or {}).items()):
        further = path.with_name(f"{path.stem}{ending}.csv")
        write_atomic(further, content.encode())
        facts.setdefault("beside", {})[further.name] = sha256(content.encode())
    write_json(path.with_suffix(".provenance.json"), facts)
    return path


def adopted(
    frame: pd.DataFrame, names: Mapping[str, Mapping[str, str]], columns: Mapping[str, Mapping[str, Scalar]], path: Path
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The evidence with the rows of runs that other files beside `path` hold, under this study's names.

    A run_id is a hash of all that decides a run's numbers: equal ids are the same run, whatever study asked for it.
    Returns (evidence, {"adopted": file -> {"runs": number, "code_version": of those runs}}).
    """
    missing = set(names) - set(frame["run_id"])
    parts, taken = [frame], {}
    for other in sorted(path.parent.glob("*.csv")):
        if not missing or other == path or not other.with_suffix(".provenance.json").is_file():
            continue
        try:
            rows = read_evidence(other)
        except UserError:  # evidence of another kind, such as trials
            continue
        rows = rows[rows["run_id"].isin(missing)]
        if rows.empty:
            continue
        told = read_json(other.with_suffix(".provenance.json"))
        if told.get("sha256") != sha256(other.read_bytes()):
            raise UserError(f"{other}: not the numbers that its provenance speaks of (sha256); they cannot be adopted")
        own = own_columns(rows)
        mine = rows.drop(columns=own)
        for name in ("study", "setting", "scale", "method"):
            mine[name] = [names[run_id][name] for run_id in rows["run_id"]]
        for name in own_columns(frame):
            mine[name] = [columns[setting][name] for setting in mine["setting"]]
        parts.append(mine.reindex(columns=frame.columns))  # what older evidence does not have stays empty
        missing -= set(rows["run_id"])
        taken[other.name] = {
            "runs": int(rows["run_id"].nunique()),
            "code_version": sorted(rows["code_version"].unique()),
        }
    whole = pd.concat(parts, ignore_index=True).sort_values(_ORDER, kind="stable", ignore_index=True)
    seeds = sorted(int(seed) for seed in whole["seed"].unique())
    return whole.astype(frame.dtypes.to_dict()), {"adopted": taken, "seeds": seeds} if taken else {}


def provenance(records: Records, csv_text: str, command: str) -> dict[str, Any]:
    """What made an evidence file: command, code and package versions, counts, hash of the CSV."""
    runs = records.runs
    manifests = list(runs["manifest"])
    return {
        "study": records.study,
        "scale": records.scale,
        "command": command,
        "sha256": sha256(csv_text.encode()),
        "code_version": sorted(runs["code_version"].unique()),
        "dirty": bool(runs["dirty"].any()),
        "suite_version": sorted(runs["suite_version"].unique()),
        "algorithm_version": dict(sorted(zip(runs["algorithm"], runs["algorithm_version"], strict=True))),
        "runs": {status: int(runs["status"].eq(status).sum()) for status in STATUSES},
        "seeds": sorted(int(seed) for seed in runs["seed"].unique()),
        "lock_hash": distinct(manifests, "lock_hash"),
        "python": distinct(manifests, "python"),
        "cpu": distinct(manifests, "cpu"),
        "threads": distinct(manifests, "threads"),
        "cpu_minutes": round(sum(_cpu_s(manifest) for manifest in manifests) / 60.0, 1),
        "packages": packages(manifests),
    }


def _cpu_s(manifest: Mapping[str, Any]) -> float:
    """Processor time; of runs that recorded none their wall-clock on one thread, which is no less."""
    return float(manifest.get("cpu_s") or manifest.get("wall_clock_s") or 0.0)


def distinct(manifests: Sequence[dict[str, Any]], key: str) -> list[Any]:
    """The different values of an optional manifest key, sorted as text."""
    values = {json.dumps(m[key], sort_keys=True): m[key] for m in manifests if m.get(key) is not None}
    return [values[text] for text in sorted(values)]


def packages(manifests: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Package -> version, or versions where the runs differ."""
    seen: dict[str, set[str]] = {}
    for manifest in manifests:
        for name, version in (manifest.get("packages") or {}).items():
            seen.setdefault(name, set()).add(str(version))
    return {name: ", ".join(sorted(seen[name])) for name in sorted(seen)}
