"""The audit of meta-gradient estimators as numbers that claims can ask for: one per MDP, which is the unit here.

The study is called `estimators`, its methods are the estimators, its settings the cells of the audit. Every size is
relative to the length ‖g‖ of the exact meta-gradient, as in the audit itself (squares to its square):

    <quantity>_bias          ‖E ĝ - g‖: the root of an unbiased estimate of its square, negative where that is
    <quantity>_bias_squared  that estimate
    <quantity>_sd, _mse, _cosine, _relative_sd_coordinates    as in `harness.audit_statistics`
    h12_share                α ‖(H12 + H12ᵀ) v‖, exactly: what LVC leaves out; the same for every estimator

quantity: `meta_gradient` or `curvature`, (I + α Ĥ) v with the exact v. Of the latter, relative to what the whole
Hessian does, α ‖H v‖, which is the exact bias of first-order MAML:

    hessian_bias, hessian_sd, h12_of_hessian
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from harness.files import read_json
from reports.estimators.audit import names, read_audit, signed_root
from reports.quantities import COLUMNS, NAN, StudyNumbers
from reports.study_info import MethodInfo, SettingInfo, StudyInfo

STUDY = "estimators"
UNIT = "MDP"
FIRST_ORDER = "first_order"
STATISTICS = ("bias", "bias_squared", "sd", "mse", "cosine", "relative_sd_coordinates")
OF_HESSIAN = {"bias": "hessian_bias", "sd": "hessian_sd", "h12_share": "h12_of_hessian"}
CELL = ["stage", "alpha", "episodes", "baseline"]


def of_folder(folder: Path, scale: str = "paper") -> StudyNumbers | None:
    """The numbers of the audit in a folder: committed evidence, or `estimators` in a results folder; None without one.

    Errors: UserError where the table, or the provenance beside it, is damaged.
    """
    path = folder / f"{STUDY if scale == 'paper' else f'{STUDY}_{scale}'}.csv"
    return _numbers(path, scale) if path.is_file() else None


def setting_name(stage: str, alpha: float, episodes: int, baseline: str) -> str:
    """What a cell of the audit is called in a check, such as `initial_a0.5_e20_none`."""
    return f"{stage}_a{alpha:g}_e{episodes}_{baseline}"


def _numbers(path: Path, scale: str) -> StudyNumbers:
    audit = read_audit(path)
    audit["bias"] = signed_root(audit["bias_squared"])
    audit["setting"] = [setting_name(*cell) for cell in audit[CELL].itertuples(index=False, name=None)]
    cells = audit.drop_duplicates("setting")
    placed = tuple(cells["setting"])
    rows = cells[CELL].itertuples(index=False, name=None)
    settings = tuple(SettingInfo(name, _columns(*row)) for name, row in zip(placed, rows, strict=True))
    mdps = tuple(sorted(int(mdp) for mdp in audit["mdp"].unique()))
    methods = tuple(MethodInfo(name, name.replace("_", " "), mdps, placed) for name in names(audit, "estimator"))
    info = StudyInfo(STUDY, "Meta-gradient estimators", scale, settings, methods, mdps)
    return StudyNumbers(info, _evidence(audit, path, scale), _long(audit), UNIT)


def _columns(stage: str, alpha: float, episodes: int, baseline: str) -> dict[str, str | float]:
    """The coordinates of a cell, to be read."""
    step = int(alpha) if alpha.is_integer() else alpha
    return {"stage": stage.replace("_", " "), "α": step, "episodes": episodes, "baseline": baseline.replace("_", " ")}


def _evidence(audit: pd.DataFrame, path: Path, scale: str) -> pd.DataFrame:
    """A row per estimator and MDP, which is measured in all cells at once; where from, and with what code."""
    provenance = path.with_suffix(".provenance.json")
    code = " ".join(read_json(provenance)["code_version"]) if provenance.is_file() else "not recorded"
    runs = audit[["estimator", "mdp"]].drop_duplicates().rename(columns={"estimator": "method", "mdp": "seed"})
    return runs.reset_index(drop=True).assign(
        study=STUDY, scale=scale, setting="all", status="done", run_id=path.name, code_version=code
    )


def _long(audit: pd.DataFrame) -> pd.DataFrame:
    """COLUMNS, a row per cell, estimator, MDP and number."""
    parts = []
    for quantity, rows in audit.groupby("quantity", sort=False):
        parts += [_named(rows, rows[name], f"{quantity}_{name}") for name in STATISTICS]
    curvature = audit[audit["quantity"].eq("curvature")]
    parts.append(_named(curvature, curvature["h12_share"], "h12_share"))
    keys = ["setting", "mdp"]
    whole = curvature[curvature["estimator"].eq(FIRST_ORDER)].set_index(keys)["bias"]
    if len(whole):
        size = curvature.join(whole.rename("size"), on=keys)["size"]
        parts += [_named(curvature, curvature[name] / size, called) for name, called in OF_HESSIAN.items()]
    table = pd.concat(parts, ignore_index=True)
    text = dict.fromkeys(("setting", "method", "protocol", "name"), "category")  # asked for hundreds of times
    return table[table["value"].notna()].astype(text).reset_index(drop=True)


def _named(rows: pd.DataFrame, values: pd.Series, name: str) -> pd.DataFrame:
    made = rows[["setting"]].assign(method=rows["estimator"], seed=rows["mdp"], protocol="", step=0, name=name)
    return made.assign(value=values.astype("float64"), sd=NAN, tasks=NAN)[COLUMNS]
