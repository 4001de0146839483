"""Audits of papers: each kind by hand-computed numbers, planted faults, missing runs, refused files, our own audits."""

import copy
from pathlib import Path

import pandas as pd
import pytest
import yaml

from harness.errors import UserError
from reports.audits.evaluation import evaluate
from reports.audits.of_print import decimals, digits_swapped, p_text
from reports.export import read_evidence
from reports.papers.published_file import WITHOUT_SUITE, load_published

ROOT = Path(__file__).parent.parent
ABOUT = {
    "paper": "p", "title": "T", "statement": "S", "source": "here", "concerns": ["means", "p.claim"],
}  # fmt: skip


def results(table, rows, uncertainty="std", columns=("iteration",), **more):
    return {
        "id": table, "kind": "results", "source": "printed", "caption": "c", "columns": list(columns),
        "metric": {"name": "return", "better": "higher"}, "uncertainty": uncertainty, "over": "tasks", "rows": rows,
        **more,
    }  # fmt: skip


def row(method, mean, **more):
    return {"method": method, "setting": {"iteration": 0}, "mean": mean, "n": 10, "approximate": False} | more


def cell(method, mean, ci95):
    return {"method": method, "setting": {"N": 10}, "mean": mean, "ci95": ci95, "n": 500, "approximate": False}


@pytest.fixture
def declared():
    """A paper with a table of two means and their test, a quote of it, settings, and two grids beside a study."""
    test = {"comparison": ["a", "b"], "setting": {"iteration": 0}, "t": 1.90, "df": 9, "p": 0.09, "p_printed": "0.09"}
    means = results("means", [row("a", 1.25, std=3.0), row("b", 4.25, std=4.0)], tests=[test])
    quoted = results("quoted", [row("a", 1.25, n=None), row("b", 4.25, n=None)], uncertainty="none")
    rates = [{"name": "rate", "value": 0.12, "scope": "x"}, {"name": "rate", "value": 0.5, "scope": "y"}]
    settings = {"id": "rates", "kind": "settings", "source": "printed", "caption": "c", "rows": rates}
    total = results("total", [cell("m", 6.0, 0.2)], uncertainty="ci95", columns=["N"])
    share = results("share", [cell("r", 0.500, 0.002)], uncertainty="ci95", columns=["N"])
    beside = {"title": "t", "paper": "p", "study": "s", "protocol": "adapted", "episodes_column": "N"}
    grid = {"accounting": "during", "labels": ["ours"], "seeds": 5, "tasks": 100}
    return {
        "schema_version": 1,
        "papers": [
            {"id": "p", "short": "Paper", "citation": "c", "tables": [means, quoted, settings, total, share]},
            {"id": "q", "short": "Other", "citation": "c", "tables": [settings]},
        ],
        "comparisons": [
            {"id": "tested", "title": "t", "paper": "p", "table": "means", "tests_table": "means", "study": "s",
             "setting": "x", "protocol": "u", "methods": {"a": [], "b": []}},
        ],
        "grid_comparisons": [
            beside | {"id": "totals", "table": "total", "value": "total", "methods": {"m": grid}},
            beside | {"id": "shares", "table": "share", "value": "fraction_of_optimum", "methods": {"r": grid},
                      "normaliser": {"printed": "r", "reference": "random_return"}},
        ],
        "claims": [{"id": "p.claim", "paper": "p", "statement": "s", "where": "w", "not_testable": "because"}],
    }  # fmt: skip


@pytest.fixture
def load(tmp_path, declared):
    """``load(audit, ...)``: the paper above with these audits, read from a file."""

    def load(*audits):
        path = tmp_path / "published.yaml"
        content = declared | {"audits": [{"id": "p.a"} | ABOUT | audit for audit in audits]}
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return load_published(path)

    return load


@pytest.fixture
def judge(load):
    """``judge(audit, evidence)``: the one finding."""
    return lambda audit, evidence=None: evaluate(load(audit), evidence or {})[0]


@pytest.fixture
def runs():
    """Two finished runs of the study: ten episodes per task, SD over 101 tasks of 0.2 per episode."""
    known = {"optimal_return": 25.0, "discounted_return": 20.0, "random_return": 10.0, "bound": 0.5}
    shares = {"fraction_of_optimum": 0.4, "sd_fraction_over_tasks": 0.04}
    rows = [
        {"study": "s", "suite": "s", "setting": "n10", "N": 10, "scale": "paper", "method": "ours", "seed": seed,
         "protocol": "adapted", "step": 0, "mean_return": 0.5, "sd_over_tasks": 0.2, "tasks": 101, "episodes": 10}
        | known | shares | {"status": "done", "run_id": f"r{seed}", "code_version": "v"}
        for seed in (0, 1)
    ]  # fmt: skip
    return {("s", "paper"): pd.DataFrame(rows)}


TESTS = {"kind": "printed_tests", "comparison": "tested"}
CELLS = {
    "kind": "cells_differ", "methods": ["a", "b"],
    "table": {"paper": "p", "table": "quoted"}, "against": {"paper": "p", "table": "means"},
}  # fmt: skip
LEVEL = {"kind": "interval_level", "table": {"paper": "p", "table": "means"}, "level": 0.68, "claimed": 0.95}
RATES = {"kind": "settings_differ", "table": {"paper": "p", "table": "rates"}, "recorded_in": "the log", "decimals": 4}
PRODUCT = {"kind": "products", "products": [{"what": "steps", "factors": [128, 64], "printed": 8196}]}
STAND = {"method": "ours", "accounting": "during"}
BOUND = {
    "kind": "against_bound",
    "comparison": "totals",
    "columns": ["m"],
    "bound": "bound",
    "says": "above",
    "spread": STAND,
}
MEAN = {"kind": "known_mean", "comparison": "totals", "column": "m", "per_episode": 0.6, "spread": STAND}
DIVISOR = {
    "kind": "implied_normaliser", "comparison": "shares", "exact": 10, "spread": STAND, "divisor": "discounted_return",
    "divisors": {"optimal_return": "plain", "discounted_return": "discounted"},
}  # fmt: skip
WIDTH = {"kind": "interval_width", "comparison": "totals", "columns": ["m"], "says": "narrow"}


def test_an_audit_carries_what_was_declared(judge):
    audit = judge(TESTS)
    assert (audit.id, audit.paper, audit.title, audit.statement, audit.source) == ("p.a", "Paper", "T", "S", "here")
    assert audit.concerns == ("means", "p.claim")


def test_a_printed_test_is_computed_again(judge):
    """t = (1.25 - 4.25) / √(9/10 + 16/10) = -1.8974; Welch's df = 2.5² / ((0.9² + 1.6²) / 9) = 16.69."""
    audit = judge(TESTS)
    line = audit.lines[0]
    assert audit.holds
    assert (line["t"], line["printed df"], line["df pooled"], line["Welch df"]) == (1.897, 9, 18, 16.7)
    assert (line["p"], line["p pooled"], line["p Welch"], line["p Holm, table"]) == ("0.090", "0.074", "0.075", "0.090")
    assert "conditional on one trained model" in audit.finding


@pytest.mark.parametrize("planted", [{"t": 2.10}, {"df": 18}, {"p": 0.04, "p_printed": "0.04"}])
def test_a_wrong_test_is_found(judge, declared, planted):
    declared["papers"][0]["tables"][0]["tests"][0] |= planted
    audit = judge(TESTS)
    assert audit.holds is False
    assert "Not: a − b, update 0." in audit.finding


@pytest.mark.parametrize(("t", "agrees"), [(1.90, "yes"), (1.91, "yes"), (1.92, "no"), (1.88, "no")])
def test_rounding_of_the_means_is_no_fault(judge, declared, t, agrees):
    """Means and SDs are rounded by up to 0.005, which moves t by (0.01 + 1.897 · 0.005 · 0.7 / 1.58) / 1.58 = 0.009."""
    declared["papers"][0]["tables"][0]["tests"][0]["t"] = t
    assert judge(TESTS).lines[0]["t agrees"] == agrees


def test_tests_without_sds_cannot_be_computed(judge, declared):
    table = declared["papers"][0]["tables"][0]
    table["uncertainty"] = "none"
    for entry in table["rows"]:
        del entry["std"]
    audit = judge(TESTS)
    assert (audit.holds, audit.lines) == (None, ())


@pytest.mark.parametrize(("quoted", "holds", "agrees"), [(4.25, False, "yes"), (4.35, True, "no"), (4.24, True, "no")])
def test_cells_are_held_against_another_table(judge, declared, quoted, holds, agrees):
    declared["papers"][0]["tables"][1]["rows"][1]["mean"] = quoted
    audit = judge(CELLS)
    assert (audit.holds, audit.lines[0]["agrees"], audit.lines[1]["agrees"]) == (holds, "yes", agrees)


def test_a_difference_is_told_in_standard_errors(judge, declared):
    """(5.25 - 4.25) / (4 / √10) = 0.7906; 4.35 is within 5 % of 4.25."""
    declared["papers"][0]["tables"][1]["rows"][1]["mean"] = 5.25
    audit = judge(CELLS | {"tolerance": 0.05})
    assert (audit.holds, audit.lines[1]["in SE"]) == (True, 0.7906)
    declared["papers"][0]["tables"][1]["rows"][1]["mean"] = 4.35
    assert judge(CELLS | {"tolerance": 0.05}).holds is False


@pytest.mark.parametrize(
    ("quoted", "raw", "holds"), [(-3.32, -3.2299, True), (-3.33, -3.2299, False), (-3.23, -3.2299, False)]
)
def test_swapped_digits_explain_a_difference_or_do_not(judge, declared, quoted, raw, holds):
    means, quote = declared["papers"][0]["tables"][:2]
    means["rows"][1]["mean"], quote["rows"][1]["mean"] = raw, quoted
    assert judge(CELLS | {"explanation": "swapped_digits"}).holds is holds


@pytest.mark.parametrize(
    ("printed", "other", "digits", "swapped"),
    [
        (-3.32, -3.23, 2, True),
        (21.0, 12.0, 0, True),
        (32.1, 12.3, 1, False),
        (3.23, 3.23, 2, False),
        (2.33, 3.23, 2, True),
    ],
)
def test_digits_are_swapped_where_two_neighbours_trade_places(printed, other, digits, swapped):
    assert digits_swapped(printed, other, digits) is swapped


def band(half):
    return {"drawn": [{"method": "a", "setting": {"iteration": 0}, "low": 1 - half, "high": 1 + half}]}


@pytest.mark.parametrize(("half", "holds"), [(0.95, True), (1.2, True), (1.6, False), (2.1, False)])
def test_a_band_is_told_by_its_height(judge, half, holds):
    """SE = 3 / √10 = 0.9487; at 68 % ±0.9434, at 95 % ±2.262 · 0.9487 = ±2.146; their geometric mean is 1.42."""
    audit = judge(LEVEL | band(half))
    line = audit.lines[0]
    assert audit.holds is holds
    assert (line["SE"], line["± at 68 %"], line["± at 95 %"]) == (0.9487, 0.9434, 2.146)


@pytest.mark.parametrize(("recorded", "holds"), [(0.10999, True), (0.12004, False), (0.11996, False), (0.12006, True)])
def test_a_printed_setting_is_or_is_not_a_rounding(judge, recorded, holds):
    audit = judge(RATES | {"settings": [{"name": "rate", "scope": "x", "recorded": recorded}]})
    assert audit.holds is holds
    assert audit.lines[0]["printed"] == "0.1200"


def test_a_setting_may_be_printed_in_the_text(judge):
    text = {"kind": "settings_differ", "recorded_in": "the script", "decimals": 0}
    audit = judge(text | {"settings": [{"name": "seeds", "printed": 3, "recorded": 1}]})
    assert audit.holds
    assert "seeds, printed 3, recorded 1" in audit.finding


def test_a_product_is_multiplied(judge):
    audit = judge(PRODUCT)
    assert audit.holds
    assert audit.lines[0]["product"] == "8192"
    right = {"kind": "products", "products": [{"what": "steps", "factors": [256, 128], "printed": 32768}]}
    assert judge(right).holds is False


def test_a_mean_is_held_against_a_bound(judge, runs):
    """6.0 - 10 · 0.5 = 1; se² = (0.2 / 2.776)² + 2² / 100 + 0.1² / 12 = 0.04602, so that t = 4.66."""
    audit = judge(BOUND, runs)
    line = audit.lines[0]
    assert audit.holds
    assert (line["most possible"], line["difference"], line["SE"]) == (5.0, 1.0, 0.215)
    assert judge(BOUND | {"says": "within"}, runs).holds is False


def test_a_mean_within_chance_of_a_bound_is_not_above_it(judge, declared, runs):
    """5.3 is above 5 by more than its interval of 0.2, but by 1.40 standard errors once 100 tasks are luck too."""
    declared["papers"][0]["tables"][3]["rows"][0]["mean"] = 5.3
    audit = judge(BOUND, runs)
    assert audit.holds is False
    assert "1 of 1 printed means are above it: m 5.3 ± 0.2 against 5.00" in audit.finding
    assert "0 of 1 are above it by more than chance" in audit.finding
    assert judge(BOUND | {"says": "within"}, runs).holds


@pytest.mark.parametrize(("per_episode", "holds"), [(0.6, True), (0.57, True), (0.5, False), (0.7, False)])
def test_a_mean_is_held_against_its_expectation(judge, runs, per_episode, holds):
    assert judge(MEAN | {"per_episode": per_episode}, runs).holds is holds


@pytest.mark.parametrize(
    ("printed", "divisor", "holds"),
    [
        (0.5, "discounted_return", True),
        (0.5, "optimal_return", False),
        (0.4, "optimal_return", True),
        (0.3, "optimal_return", False),
    ],
)
def test_the_divisor_is_implied_by_a_column(judge, declared, runs, printed, divisor, holds):
    """10 / 20 = 0.5 with se = 0.04 · 25 / 20 · √(1/101 + 1/100) = 0.0071; 10 / 25 = 0.4."""
    declared["papers"][0]["tables"][4]["rows"][0]["mean"] = printed
    audit = judge(DIVISOR | {"divisor": divisor}, runs)
    assert audit.holds is holds
    assert [line["gives"] for line in audit.lines] == [0.4, 0.5]


def test_the_divisor_of_an_exact_expectation(judge, runs):
    assert "of an expected 10 per episode, which makes the divisor 20.00" in judge(DIVISOR, runs).finding


def test_a_column_that_fits_two_divisors_decides_nothing(judge, declared, runs):
    runs["s", "paper"]["discounted_return"] = 24.9
    declared["papers"][0]["tables"][4]["rows"][0]["mean"] = 0.401
    assert judge(DIVISOR, runs).holds is False


@pytest.mark.parametrize(
    ("half", "says", "holds"),
    [(0.05, "narrow", True), (0.2, "narrow", False), (2.0, "wide", True), (0.4, "wide", False)],
)
def test_a_width_is_held_against_the_choice_of_tasks(judge, declared, runs, half, says, holds):
    """Over 500 values 1.96 · 2 / √500 = 0.1753, over 100 tasks 1.984 · 2 / 10 = 0.3968; over seeds h √5 / 2.776."""
    declared["papers"][0]["tables"][3]["rows"] = [cell("m", 6.05, half)]  # two decimals: half a unit is 0.005
    audit = judge(WIDTH | {"says": says}, runs)
    line = audit.lines[0]
    assert audit.holds is holds
    assert (line["± over all values"], line["± over the tasks"]) == (0.175, 0.397)
    assert line["SD over seeds it would mean"] == pytest.approx(half * 5**0.5 / 2.776, rel=1e-2)


@pytest.mark.parametrize(("says", "sd"), [("narrow", 2.0), ("wide", 4.0)])
def test_a_width_gets_the_benefit_of_the_doubt(judge, runs, says, sd):
    """Of two runs whose SDs are 2 and 4 the one counts with which the printed width is the less unusual."""
    runs["s", "paper"]["sd_over_tasks"] = [0.4, 0.2]
    assert judge(WIDTH | {"says": says}, runs).lines[0]["SD over tasks, ours"] == sd


def test_a_width_beside_another_column(judge, declared, runs):
    """Ten times as wide over five seeds each: F = 100 with (4, 4) degrees of freedom, p = 0.0006."""
    declared["papers"][0]["tables"][3]["rows"] = [cell("m", 6.05, 2.0), cell("other", 6.05, 0.2)]
    methods = declared["grid_comparisons"][0]["methods"]
    methods["other"] = methods["m"] | {"labels": []}
    finding = judge(WIDTH | {"says": "wide", "beside": "other"}, runs).finding
    assert "larger in 1 of 1 settings: m at N = 10, 10.0 times. By more than chance (Holm) it is in 1." in finding


@pytest.mark.parametrize("audit", [BOUND, MEAN, DIVISOR, WIDTH])
def test_without_runs_nothing_is_said(judge, runs, audit):
    unfinished = {("s", "paper"): runs["s", "paper"].assign(status="failed")}
    for evidence in ({}, {("s", "quick"): runs["s", "paper"]}, unfinished):
        found = judge(audit, evidence)
        assert (found.holds, found.lines) == (None, ())
        assert found.finding == "No finished run of `s` at scale `paper` is recorded."


@pytest.mark.parametrize(
    ("audit", "column"),
    [
        (BOUND, "bound"),
        (DIVISOR, "discounted_return"),
        (DIVISOR, "random_return"),
        (WIDTH, "sd_over_tasks"),
        (MEAN, "sd_over_tasks"),
    ],
)
def test_without_a_column_nothing_is_said(judge, runs, audit, column):
    table = runs["s", "paper"]
    runs["s", "paper"] = (
        table.assign(sd_over_tasks=float("nan")) if column == "sd_over_tasks" else table.drop(columns=column)
    )
    found = judge(audit, runs)
    assert (found.holds, found.lines) == (None, ())
    assert "record no" in found.finding


@pytest.mark.parametrize(
    ("audit", "message"),
    [
        (TESTS | {"paper": "x"}, "audit p.a: the file has no paper x"),
        (TESTS | {"concerns": ["rates", "nowhere"]}, "audit p.a: p has no table or claim nowhere"),
        (TESTS | {"paper": "q", "concerns": ["p.claim"]}, "audit p.a: q has no table or claim p.claim"),
        (TESTS | {"comparison": "totals"}, "audit p.a: p has no comparison totals"),
        (TESTS | {"kind": "guess"}, "audits[p.a]: Input tag 'guess'"),
        (TESTS | {"holds": True}, "unknown field"),
        (TESTS | {"id": "no dot"}, "String should match pattern"),
        (CELLS | {"methods": ["c"]}, "audit p.a: table quoted prints no method c"),
        (CELLS | {"against": {"paper": "p", "table": "rates"}}, "audit p.a: no results table rates of paper p"),
        (LEVEL | band(-1), "the band of a has no height"),
        (LEVEL | {"table": {"paper": "p", "table": "quoted"}} | band(1), "audit p.a: table quoted has no SD of a"),
        (RATES | {"settings": [{"name": "rate", "recorded": 1}]}, "table rates prints no number rate of scope ''"),
        (PRODUCT | {"products": []}, "List should have at least 1 item"),
        (BOUND | {"columns": ["n"]}, "audit p.a: comparison totals has no column n"),
        (BOUND | {"comparison": "shares", "columns": ["r"]}, "audit p.a: comparison shares is not one of totals"),
        (BOUND | {"says": "below"}, "says: Input should be 'above' or 'within' (found 'below')"),
        (DIVISOR | {"comparison": "totals"}, "audit p.a: comparison totals declares no normaliser"),
        (DIVISOR | {"divisor": "third"}, "audit p.a: divisor third is not among the divisors"),
        (WIDTH | {"beside": "n"}, "audit p.a: comparison totals has no column n"),
    ],
)  # fmt: skip
def test_a_wrong_declaration_is_refused_in_one_line(load, audit, message):
    with pytest.raises(UserError) as refused:
        load(audit)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_id_occurs_once(load):
    with pytest.raises(UserError, match=r"audit p\.a occurs twice"):
        load(copy.deepcopy(TESTS), copy.deepcopy(TESTS))


def test_decimals_and_small_p():
    assert (decimals([0.12, None, 3.0]), decimals([8196.0]), decimals([0.0005])) == (2, 0, 4)
    assert (p_text(0.0), p_text(0.044)) == ("< 10⁻¹²", "0.044")


@pytest.fixture(scope="module")
def ours():
    """Every audit of the suites on the committed evidence."""
    evidence = {
        (path.stem, "paper"): read_evidence(path)
        for path in (ROOT / "reports" / "evidence" / f"{study}.csv" for study in ("bandits", "tabular_mdp"))
    }
    files = [*sorted((ROOT / "suites").glob("*/published.yaml")), WITHOUT_SUITE]
    return {audit.id: audit for path in files for audit in evaluate(load_published(path), evidence)}


def test_every_statement_is_borne_out_on_the_committed_evidence(ours):
    assert len(ours) >= 17
    assert {name: audit.holds for name, audit in ours.items() if audit.holds is not True} == {}


def test_lines_of_an_audit_have_the_same_columns(ours):
    assert all(len({tuple(line) for line in audit.lines}) == 1 for audit in ours.values())


def test_all_twelve_tests_of_the_ulm_report(ours):
    lines = [line for name in ("3_4", "b_1") for line in ours[f"ulm.tests_of_table_{name}"].lines]
    assert len(lines) == 12
    assert {line["t agrees"] + line["p agrees"] for line in lines} == {"yesyes"}
    assert {(line["printed df"], line["df pooled"]) for line in lines} == {(39, 78)}
    lost = ours["ulm.tests_of_table_b_1"].lines[1]
    assert (lost["printed t"], lost["p"], lost["p Holm, table"], lost["p Holm, 12 tests"]) == (
        2.56,
        "0.014",
        "0.087",
        "0.10",
    )


@pytest.mark.parametrize(
    ("audit", "words"),
    [
        (
            "ulm.tests_of_table_3_4",
            "Of 3 printed with p below .05, 3 stay there under Holm over the table’s 4 and 3 over all 12",
        ),
        (
            "ulm.tests_of_table_b_1",
            "Of 3 printed with p below .05, 2 stay there under Holm over the table’s 8 and 2 over all 12",
        ),
        ("ulm.band_of_the_original_figure", "reach 0.97 to 1.01 standard errors to each side"),
        ("ulm.learning_rates_of_table_a_1", "5 of 6 printed values"),
        ("finn.quote_with_swapped_digits", "3 of 4 cells"),
        ("finn.quote_with_swapped_digits", "−3.32 for −3.2299, with two digits swapped"),
        ("finn.values_read_off_the_figure", "random at update 3, −40.00 for −46.8085, 10.3 standard errors off"),
        ("deleu.bandit_columns_count_different_things", "4 of 6 printed means are above it"),
        ("deleu.adapted_columns_are_within_reach", "maml 416.8 ± 0.6 against 415.0 at N = 500, K = 5"),
        ("deleu.normaliser_of_the_quoted_columns", "which makes the divisor 20.75 to 20.79"),
        ("deleu.reptile_intervals_are_over_seeds", "these scatter with an SD of 0.082"),
        ("deleu.random_column_is_as_expected", "10 of 10 printed means are the expectation within chance"),
        ("kit.epg_budgets", "printed 8196, where 128 × 64 = 8192"),
    ],
)
def test_findings_about_the_papers(ours, audit, words):
    assert words in ours[audit].finding
