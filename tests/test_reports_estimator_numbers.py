"""The audit of estimators as numbers per MDP: columns by hand, where they come from, and claims that ask for them."""

import json

import numpy as np
import pytest
from scipy import stats

from harness.errors import UserError
from reports import claims, sources
from reports.decisions import decide
from reports.estimators.numbers import of_folder, setting_name
from reports.verdicts import Verdict
from tests.harness_fixtures import PROJECT
from tests.reference.synthetic_estimators import MDPS, rows, write
from tests.reference.synthetic_numbers import claim, published

CELL = setting_name("initial", 2.0, 20, "none")
FIRST_ORDER_BIAS = 0.5
"""What the whole Hessian does to the meta-gradient, relative to its length, in the made-up audit."""


def with_first_order():
    """The made-up audit and first-order MAML in it, whose curvature has no spread."""
    made = rows()
    for row in [row for row in made if (row["quantity"], row["estimator"]) == ("curvature", "lvc")]:
        exact = {"sd": 0.0, "bias": FIRST_ORDER_BIAS, "bias_squared": FIRST_ORDER_BIAS**2, "mse": FIRST_ORDER_BIAS**2}
        made.append(row | {"estimator": "first_order"} | exact)
    return made


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "estimators.csv", with_first_order())
    provenance = {"code_version": ["abc", "def"]}
    (tmp_path / "estimators.provenance.json").write_text(json.dumps(provenance), encoding="utf-8")
    return tmp_path


def asked(numbers, method, name, setting=CELL):
    return numbers.of(method, setting, name, "", 0)["value"].tolist()


def test_a_cell_of_the_audit_is_a_setting_that_can_be_read(folder):
    assert setting_name("near_optimum", 0.5, 1000, "linear_features") == "near_optimum_a0.5_e1000_linear_features"
    info = of_folder(folder).info
    assert (info.name, info.scale, info.seeds) == ("estimators", "paper", (0, 1, 2))
    assert set(info.labels) == {"first_order", "score_function", "lvc", "dice", "emaml_paper"}
    described = {setting.name: setting.describe() for setting in info.settings}
    assert described[CELL] == "stage = initial, α = 2, episodes = 20, baseline = none"
    assert len(described) == 2 * 3


def test_the_numbers_of_a_cell_by_hand(folder):
    numbers = of_folder(folder)
    assert numbers.unit == "MDP"
    # Relative to the truth already, whose length is 0.5: nothing is divided by it once more. √(20 / 10) = 1.41421
    spread = [sd / 2**0.5 for sd in (1.0, 2.0, 3.0)]
    assert asked(numbers, "lvc", "meta_gradient_sd") == pytest.approx(spread, rel=1e-5)
    assert asked(numbers, "lvc", "meta_gradient_mse") == pytest.approx([0.04 + sd**2 for sd in spread], rel=1e-5)
    assert asked(numbers, "lvc", "meta_gradient_cosine") == pytest.approx([1 / (1 + sd) for sd in spread], rel=1e-5)
    assert asked(numbers, "lvc", "meta_gradient_bias") == pytest.approx([0.2] * MDPS)
    assert asked(numbers, "lvc", "meta_gradient_bias_squared") == pytest.approx([0.04] * MDPS)
    assert asked(numbers, "lvc", "h12_share") == pytest.approx([0.2] * MDPS)


def test_a_bias_whose_square_is_estimated_below_zero_is_negative(folder):
    assert asked(of_folder(folder), "dice", "curvature_bias") == pytest.approx([-(0.001**0.5)] * MDPS)


def test_relative_to_what_the_hessian_does(folder):
    numbers = of_folder(folder)
    assert asked(numbers, "lvc", "hessian_bias") == pytest.approx([0.2 / FIRST_ORDER_BIAS] * MDPS)
    assert asked(numbers, "lvc", "h12_of_hessian") == pytest.approx([0.2 / FIRST_ORDER_BIAS] * MDPS)
    assert asked(numbers, "first_order", "hessian_bias") == pytest.approx([1.0] * MDPS)
    spread = [sd / 2**0.5 / FIRST_ORDER_BIAS for sd in (1.0, 2.0, 3.0)]
    assert asked(numbers, "lvc", "hessian_sd") == pytest.approx(spread, rel=1e-5)


def test_without_first_order_nothing_is_relative_to_the_hessian(tmp_path):
    write(tmp_path / "estimators.csv")
    names = set(of_folder(tmp_path).table["name"])
    assert "curvature_bias" in names
    assert not {"hessian_bias", "hessian_sd", "h12_of_hessian"} & names


def test_what_is_behind_the_numbers_is_named(folder):
    numbers = of_folder(folder)
    assert numbers.code_versions == ["abc def"]
    assert set(numbers.evidence["run_id"]) == {"estimators.csv"}
    assert len(numbers.evidence) == 5 * MDPS
    (folder / "estimators.provenance.json").unlink()
    assert of_folder(folder).code_versions == ["not recorded"]
    (folder / "estimators.provenance.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="provenance"):
        of_folder(folder)


def test_another_scale_has_a_file_of_its_own(folder):
    assert of_folder(folder, "smoke") is None
    write(folder / "estimators_smoke.csv")
    assert of_folder(folder, "smoke").info.scale == "smoke"


def test_the_audit_is_in_the_book_of_committed_evidence_where_it_is_there(folder, tmp_path):
    assert list(sources.book_of_evidence([], folder)) == [("estimators", "paper")]
    assert sources.book_of_evidence([], tmp_path / "nowhere") == {}
    assert list(sources.book_of_audit(folder)) == [("estimators", "paper")]
    assert sources.book_of_audit(folder, "smoke") == {}


def judged(folder, check):
    asking = {"study": "estimators", "settings": [CELL]} | check
    file = published(claims=[claim({"kind": "ordering"}) | {"check": asking}])
    (one,) = decide(claims.drafts(file, sources.book_of_audit(folder)))
    return one


def test_a_claim_is_tested_over_mdps_paired(tmp_path):
    made = with_first_order()
    noise = [1.0, 1.3, 0.9]
    for row in made:
        if row["estimator"] == "dice":
            row["sd"] *= noise[row["mdp"]]
    write(tmp_path / "estimators.csv", made)
    check = {"kind": "ordering", "statistic": "ratio", "better": "lower", "column": "meta_gradient_sd"}
    one = judged(tmp_path, check | {"first": "lvc", "second": "dice"})
    logs = np.log(2 * np.array(noise))
    assert one.p == pytest.approx(stats.ttest_1samp(logs, 0).pvalue, rel=1e-4)
    assert one.verdict is Verdict.DIRECTION_REPLICATED
    assert "(3 MDPs) against" in one.rows[0].ours
    assert one.rows[0].estimate.unit == "MDP"


def test_a_bound_on_what_lvc_leaves_out(tmp_path):
    made = with_first_order()
    for row in made:
        row["h12_share"] = [0.01, 0.02, 0.03][row["mdp"]]
    write(tmp_path / "estimators.csv", made)
    margin = {"value": 0.1, "rationale": "r"}
    one = judged(tmp_path, {"kind": "at_most", "column": "h12_of_hessian", "first": "lvc", "margin": margin})
    values = np.array([0.01, 0.02, 0.03]) / FIRST_ORDER_BIAS
    assert one.p == pytest.approx(2 * stats.ttest_1samp(values, 0.1, alternative="less").pvalue, rel=1e-4)
    assert one.verdict is Verdict.DIRECTION_REPLICATED
    assert one.reason.startswith("It is below 0.100: 0.040 [")


def test_the_committed_audit_has_every_cell_with_the_same_mdps():
    numbers = of_folder(PROJECT / "reports" / "evidence")
    counts = numbers.table.groupby(["setting", "method", "name"], observed=True)["seed"].agg(["size", "nunique"])
    assert (counts == len(numbers.info.seeds)).all(axis=None)
    assert len(numbers.info.settings) == 80
