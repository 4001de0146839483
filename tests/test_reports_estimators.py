"""The page of the estimator audit: means over MDPs and ratios computed by hand, and the same bytes twice."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.errors import UserError
from reports.estimators.audit import bias_by_stage, curvature_bias, names, over_mdps, ratios, read_audit
from reports.estimators.page import build
from tests.reference.synthetic_corners import CORNERS
from tests.reference.synthetic_estimators import MDPS, rows, write

CLAIM = CORNERS.claim("rothfuss2019_promp", "dice_std_over_lvc")
PROVENANCE = {"audit": "estimators", "scale": "paper", "command": "metarepro estimators", "packages": {"torch": "2"}}
HALF = float(stats.t.ppf(0.975, MDPS - 1)) / MDPS**0.5


@pytest.fixture
def csv(tmp_path):
    return write(tmp_path / "estimators.csv")


def row_of(table: pd.DataFrame, **where) -> pd.Series:
    for name, value in where.items():
        table = table[table[name].eq(value)]
    assert len(table) == 1
    return table.iloc[0]


def test_the_rows_are_in_the_order_of_the_page_whatever_that_of_the_file(csv):
    audit = read_audit(csv)
    assert names(audit, "quantity") == ["meta_gradient", "curvature"]
    assert names(audit, "stage") == ["initial", "near_optimum"]
    assert names(audit, "estimator") == ["score_function", "lvc", "dice", "emaml_paper"]
    assert set(audit["baseline"]) == {"none"}


def test_means_over_mdps_by_hand(csv):
    table = over_mdps(read_audit(csv))
    row = row_of(table, stage="initial", quantity="meta_gradient", estimator="lvc", episodes=10)
    # SDs 1, 2 and 3: mean 2, SD 1
    assert (row["sd_mean"], row["mdps"]) == (2, 3)
    assert (row["sd_low"], row["sd_high"]) == pytest.approx((2 - HALF, 2 + HALF))
    assert row["bias_mean"] == pytest.approx(0.2)
    assert row["rmse_mean"] == pytest.approx(np.mean([(0.04 + sd**2) ** 0.5 for sd in (1, 2, 3)]), rel=1e-5)
    assert row["cosine_mean"] == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 3, rel=1e-5)


def test_a_bias_counts_only_beyond_the_noise_of_its_estimate(csv):
    table = over_mdps(read_audit(csv))
    clear = {name: set(group["bias_clear"]) for name, group in table.groupby("estimator")}
    # 3 · 0.04 against 1.96 · 0.002 · √3; DiCE's estimate is negative
    assert clear["lvc"] == {"yes"}
    assert clear["dice"] == {"no"}


def test_a_bias_that_is_noise_scatters_about_zero(tmp_path):
    made = rows()
    for row in made:
        if row["estimator"] == "lvc" and row["quantity"] == "curvature":  # squares 0.03, -0.01 and -0.05: mean -0.01
            square = 0.03 - 0.04 * row["mdp"]
            row |= {"bias_squared": square, "bias": max(square, 0) ** 0.5, "bias_squared_se": 0.03}
    audit = read_audit(write(tmp_path / "a.csv", made))
    row = row_of(bias_by_stage(curvature_bias(audit)), stage="initial")
    half = 1.96 * 0.03 / 3**0.5
    assert row["bias_mean"] == pytest.approx(-0.1)
    assert (row["bias_low"], row["bias_high"]) == pytest.approx((-((half + 0.01) ** 0.5), (half - 0.01) ** 0.5))
    assert row["h12_share_mean"] == pytest.approx(0.2)
    same = row_of(over_mdps(audit), stage="initial", quantity="curvature", estimator="lvc", episodes=100)
    assert (same["bias_mean"], same["bias_clear"]) == (pytest.approx(-0.1), "no")


def test_ratios_by_hand(csv):
    row = row_of(ratios(read_audit(csv)), stage="initial", quantity="meta_gradient", episodes=20)
    for part in ("mean", "low", "high"):  # the same on every MDP, so that the interval has no width
        assert row[f"norm_{part}"] == pytest.approx(2, rel=1e-4)
    assert row["coordinates_median"] == pytest.approx(3, rel=1e-4)
    assert np.isnan(row["coordinates_low"])  # three MDPs: no distribution-free interval
    assert (row["larger"], row["mdps"]) == (3, 3)


def test_the_interval_of_a_ratio_is_that_of_its_logarithm(tmp_path):
    made = rows()
    for row in made:
        if row["estimator"] == "dice" and row["mdp"] == 2:
            row["sd"] *= 4  # ratios 2, 2 and 8
    row = row_of(
        ratios(read_audit(write(tmp_path / "a.csv", made))), stage="initial", quantity="curvature", episodes=10
    )
    logs = np.log([2, 2, 8])
    assert row["norm_mean"] == pytest.approx(np.exp(logs.mean()), rel=1e-4)
    assert row["norm_high"] == pytest.approx(np.exp(logs.mean() + HALF * logs.std(ddof=1)), rel=1e-4)


def test_the_bias_of_lvc_is_that_of_its_curvature_with_the_most_episodes(csv):
    found = curvature_bias(read_audit(csv))
    assert len(found) == 2 * MDPS
    assert set(found["episodes"]) == {100}
    assert set(found["bias"]) == set(found["h12_share"]) == {0.2}


def test_the_page(csv, tmp_path):
    findings = ["`lvc` scatters less than <b>."]
    pages = [
        build(csv, PROVENANCE, tmp_path / name, findings=findings, descriptions={"lvc": "what it is"}, claim=CLAIM)
        for name in ("first", "second")
    ]
    text = pages[0].read_text()
    assert text == pages[1].read_text()
    files = sorted(path.name for path in pages[0].with_suffix("").iterdir())
    for name in files:
        assert (tmp_path / "first/estimators" / name).read_bytes() == (
            tmp_path / "second/estimators" / name
        ).read_bytes()
    assert {"errors_curvature_alpha_2_none.svg", "ratio_meta_gradient.svg", "curvature_bias.svg"} <= set(files)
    assert "2.00 [2.00, 2.00]" in text
    assert "measured bias is estimated without bias" in text
    assert "100 independent estimates" in text
    assert "3 of 3" in text
    assert "<td>1.6</td>" in text
    assert "<code>lvc</code> scatters less than &lt;b&gt;." in text
    assert "torch 2" in text
    assert "Smoke test" not in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(ids)
    assert set(re.findall(r'href="estimators/([^"]+)"', text)) <= set(files)
    assert not re.search(r'(?:src|href)="(?!#|data:|estimators/)', text)


def test_a_page_of_one_mdp_one_stage_and_no_pair(tmp_path):
    made = [r for r in rows(["initial"], [10]) if r["mdp"] == 0 and r["estimator"] == "score_function"]
    text = build(write(tmp_path / "small.csv", made), {"scale": "smoke"}, tmp_path / "out").read_text()
    assert "Smoke test, not a measurement" in text
    assert "The two were not both measured." in text
    assert "LVC’s curvature was not measured." in text
    assert (tmp_path / "out" / "small" / "errors_meta_gradient_alpha_2_none.svg").is_file()


def test_a_vector_without_spread_is_not_drawn_on_a_logarithmic_axis(tmp_path):
    made = rows()
    for row in made:
        if row["estimator"] == "score_function" and row["quantity"] == "curvature":
            row |= {"sd": 0.0, "bias_squared_se": 0.0}
    page = build(write(tmp_path / "estimators.csv", made), PROVENANCE, tmp_path / "out")
    assert "nan" not in (page.with_suffix("") / "errors_curvature_alpha_2_none.svg").read_text().lower()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no audit at"),
        ("stage,mdp\ninitial,0\n", "lacks the columns"),
        ("", "not an audit of estimators"),
    ],
)
def test_what_is_not_an_audit_is_refused(tmp_path, content, says):
    path = tmp_path / "estimators.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=says):
        read_audit(path)


def test_text_in_place_of_a_number_is_refused(tmp_path):
    path = write(tmp_path / "estimators.csv")
    path.write_text(path.read_text().replace("0.99", "much"))
    with pytest.raises(UserError, match="not an audit of estimators"):
        read_audit(path)
