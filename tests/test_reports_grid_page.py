"""The page of a grid study on made-up runs: what it states, computed from the records and from nothing else."""

import dataclasses
import re
from pathlib import Path

import pandas as pd
import pytest

from reports.grids.page import gaps
from reports.papers.published_file import load_published
from reports.records import Records, load
from reports.study_info import MethodInfo, SettingInfo, StudyInfo
from reports.tables import completeness
from tests.reference.synthetic_grid import BANDITS, CELLS, KNOWN, MDP, SUITES, Cell, PerTask, bandit_info, grid_records
from tests.reference.synthetic_runs import study_info, synthetic_records, write_store
from tests.reference.synthetic_verdicts import report


def ablation() -> tuple[Records, StudyInfo]:
    """Two cells, the printed 80.3 inside the interval of the second only."""
    spread = [0.0, 0.001, 0.002, 0.003]
    cells: dict[Cell, PerTask] = {
        (name, "maml", seed): ([0.5] * 4, [mean + 0.001 * seed + task for task in spread])
        for name, mean in (("weak", 0.515), ("strong", 0.8))
        for seed in range(3)
    }
    settings = (
        SettingInfo("weak", {"input": 0, "inner_lr": 0.5}),
        SettingInfo("strong", {"input": 1, "inner_lr": 50.0}),
    )
    info = StudyInfo(
        "bandits_ablation", "Ablation of the inner step", "paper", settings,
        (MethodInfo("maml", "one step", (0, 1, 2), ("weak", "strong")),), (0, 1, 2),
        findings=("One `inner_lr` is <enough>.",), commands={"report": "metarepro report bandits_ablation"},
    )  # fmt: skip
    return grid_records(cells, {}, study="bandits_ablation", episodes=100), info


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    info = dataclasses.replace(bandit_info(), findings=("MAML & `gittins` <differ>.",))
    return report(tmp_path_factory.mktemp("grid"), (grid_records(CELLS, KNOWN), info, BANDITS), (*ablation(), BANDITS))


def text_of(page: Path, section: str | None = None) -> str:
    """The page, or one section of it with all that is in it, without tags and figures."""
    html = re.sub(r"<(svg|style|script).*?</\1>", "", page.read_text(), flags=re.DOTALL)
    if section:
        html = html[html.index(f'<section id="{section}"') :]
        depth = 0
        for tag in re.finditer(r"<(/?)section", html):
            depth += -1 if tag[1] else 1
            if not depth:
                html = html[: tag.start()]
                break
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_the_page_is_whole_and_made_twice_in_the_same_bytes(page, tmp_path):
    info = dataclasses.replace(bandit_info(), findings=("MAML & `gittins` <differ>.",))
    again = report(tmp_path, (grid_records(CELLS, KNOWN), info, BANDITS), (*ablation(), BANDITS))
    assert again.read_bytes() == page.read_bytes()
    names = {path.name for path in (page.parent / "bandits").iterdir()}
    for name in names:
        assert (tmp_path / "bandits" / name).read_bytes() == (page.parent / "bandits" / name).read_bytes()
    html = page.read_text()
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', html)) <= set(ids)
    assert set(re.findall(r'href="bandits/([^"]+)"', html)) == names
    assert {"bandits-beside_printed.csv", "bandits-overview.svg", "bandits_ablation-beside_printed.csv"} <= names


def test_what_no_learner_can_collect_is_computed_and_set_against_the_printed_means(page):
    text = text_of(page, "bandits-table")
    assert (
        "N = 10, K = 5: 6.660. Above it: printed maml 7.0 ± 0.1 (with its whole interval), printed reptile 7.2" in text
    )
    assert (
        "N = 500, K = 5: "
        not in text.split("Table 1 beside ours")[1].split("Printed means inside")[0].split("setting method")[0]
    )


def test_the_table_states_accounting_both_intervals_and_the_verdict(page):
    html = page.read_text()
    line = next(line for line in html.splitlines() if '<td class="name">maml</td>' in line and "N = 10, K = 5" in line)
    cells = [re.sub(r"<[^>]+>", " ", cell) for cell in re.findall(r"<td.*?</td>", line)]
    cells = [re.sub(r"\s+", " ", cell).strip() for cell in cells]
    # prediction: t(.975, 1) = 12.7062 for both parts: 7.1 - 12.7062 sqrt(.02 (1/2 + 1/5) + 2 (1/2 + 1/200))
    assert cells == [
        "maml",
        "7.0 ± 0.1 adapted policy",
        "5.50 2 seeds [−0.85, 11.85] tasks [−7.21, 18.21]",
        "7.10 2 seeds [5.83, 8.37] tasks [−5.61, 19.81]",
        "0.10 printed inside",
        "[−5.76, 19.96] one seed [4.90, 9.30]",
        "8.50 during 3.00 adapted 1.40",
        "1.33",
    ]
    assert re.search(r'<td class="ours">7\.10', line)
    assert "printed inside the 95 % prediction interval: maml 2 of 2 settings; gittins 1 of 1 settings." in text_of(
        page, "bandits-table"
    ).replace("Printed means", "printed")


def test_the_narrow_printed_interval_is_set_against_the_spread_over_tasks(page):
    # SD of 400 and 450 is 35.355; t(.975, 199) = 1.97196; 35.355 * 1.97196 / sqrt(200) = 4.93, against 0.6
    assert "a 95 % half-width of 4.9 at N = 500, K = 5, where the paper prints ± 0.6 for maml" in text_of(
        page, "bandits-table"
    )


def test_missing_cells_are_stated_by_setting(page):
    assert "5 of 6 expected runs are done; 0 diverged, 0 failed, 0 started but not finished, 1 missing" in text_of(page)
    assert "N = 500, K = 5 gittins missing 0" in text_of(page, "bandits-about")


def test_expected_runs_follow_from_each_methods_seeds_and_settings():
    info = bandit_info()
    narrow = dataclasses.replace(info.methods[1], settings=("n10_k5",))
    info = dataclasses.replace(info, methods=(info.methods[0], narrow))
    runs = grid_records(CELLS, KNOWN, status={("n10_k5", "maml", 1): "diverged"}).runs
    runs = runs[~runs["run_id"].eq("n500_k5-maml-0")]
    table = completeness(runs, info).set_index("method")
    assert list(table.loc["maml", ["expected", "done", "diverged", "missing"]]) == [4, 2, 1, 1]
    assert list(table.loc["gittins", ["expected", "done", "missing"]]) == [1, 1, 0]
    assert gaps(runs, info).to_dict("records") == [
        {"setting": "n10_k5", "method": "maml", "state": "diverged", "runs": 1, "seeds": "1"},
        {"setting": "n500_k5", "method": "maml", "state": "missing", "runs": 1, "seeds": "0"},
    ]


def test_what_no_setting_asks_for_is_not_missing():
    runs = grid_records(CELLS, KNOWN).runs
    missing = {
        (row["setting"], row["method"], int(row["seeds"])) for row in gaps(runs, bandit_info()).to_dict("records")
    }
    assert missing
    info = dataclasses.replace(bandit_info(), unasked=frozenset(missing))
    assert info.expected == bandit_info().expected - missing
    table = completeness(runs, info)
    assert table["missing"].sum() == 0
    assert gaps(runs, info).empty


def test_the_companion_is_a_section_with_its_own_verdict_and_command(page):
    text = text_of(page, "bandits_ablation")
    assert "Ablation of the inner step" in text
    assert "6 of 6 expected runs are done, with 3 training seeds (0–2)." in text
    assert (
        "The printed mean lies inside the 95 % prediction interval of 1 of 2 cells: input = 1, inner_lr = 50.0." in text
    )
    assert "metarepro report bandits_ablation" in text
    assert 'href="#bandits_ablation"' in page.read_text()


def test_the_companion_by_itself_has_a_page_too(tmp_path):
    records, info = ablation()
    only = dataclasses.replace(
        info, settings=info.settings[:1], methods=(MethodInfo("maml", "", (0, 1, 2), ("weak",)),)
    )
    page = report(tmp_path, (records, only, BANDITS))
    assert page.name == "bandits_ablation.html"
    text = text_of(page, "bandits_ablation-table")
    assert "The printed mean lies inside the 95 % prediction interval of none of the 1 cells." in text
    assert "strong" not in (tmp_path / "bandits_ablation" / "bandits_ablation-evidence.csv").read_text()


def test_findings_and_labels_are_escaped(page, tmp_path):
    html = page.read_text()
    assert "<p>MAML &amp; <code>gittins</code> &lt;differ&gt;.</p>" in html
    assert "<p>One <code>inner_lr</code> is &lt;enough&gt;.</p>" in html
    label = "<script>alert(1)</script>"
    records = grid_records({("n10_k5", label, 0): ([0.5, 0.5], [0.6, 0.6])}, KNOWN)
    settings = (SettingInfo("n10_k5", {"N": 10, "K": "<b>5</b>"}),)
    info = StudyInfo("bandits", "<i>B</i>", "paper", settings, (MethodInfo(label, "<u>", (0,), ("n10_k5",)),), (0,))
    made = report(tmp_path, (records, info, BANDITS)).read_text()
    for tag in ("<script>alert", "<b>", "<i>", "<u>"):
        assert tag not in made


def test_raw_reward_and_implied_normaliser_stand_beside_fractions(tmp_path):
    settings = (SettingInfo("n10", {"N": 10}),)
    info = StudyInfo("tabular_mdp", "MDPs", "paper", settings, (MethodInfo("maml", "", (0, 1), ("n10",)),), (0, 1))
    known = {"n10": {"optimal_return": [20.0, 40.0], "random_return": [9.0, 11.0]}}
    cells: dict[Cell, PerTask] = {("n10", "maml", seed): ([10.0, 10.0], [20.0, 10.0]) for seed in (0, 1)}
    page = report(tmp_path, (grid_records(cells, known, study="tabular_mdp"), info, MDP))
    beside = pd.read_csv(tmp_path / "tabular_mdp" / "tabular_mdp-beside_printed.csv").iloc[0]
    assert (beside["adapted_mean"], beside["adapted_reward"]) == (0.625, 15)
    assert "raw reward per episode, adapted" in text_of(page, "tabular_mdp-table")
    # 10 / 0.482 = 20.75
    assert "20.75" in text_of(page, "tabular_mdp-bounds")


def test_a_grid_of_which_nothing_has_finished_still_shows_the_printed_table(tmp_path):
    status = {cell: "running" for cell in CELLS if cell != ("n10_k5", "gittins", 0)}
    info = bandit_info()
    only_maml = dataclasses.replace(info, methods=info.methods[:1])
    page = report(tmp_path, (grid_records(CELLS, KNOWN, status=status), only_maml, BANDITS))
    assert "0 of 4 expected runs are done" in text_of(page)
    assert "416.8 ± 0.6" in text_of(page, "bandits-table")
    records = grid_records(CELLS, {})
    alone = report(tmp_path, (records, dataclasses.replace(info, name="mine"), BANDITS))
    assert "No printed table is declared for this study" in text_of(alone, "mine-table")
    assert "No run recorded what is known exactly" in text_of(alone, "mine-bounds")


def test_references_are_read_from_the_store_where_there_are_any(tmp_path):
    records = grid_records(CELLS, {"n10_k5": KNOWN["n10_k5"]}, study="navigation")
    read = load(write_store(tmp_path, records), "navigation", "paper")
    order = ["run_id", "name", "task"]
    got, wrote = (frame.sort_values(order, ignore_index=True) for frame in (read.references, records.references))
    pd.testing.assert_frame_equal(got[wrote.columns], wrote, check_dtype=False)
    assert set(read.references["run_id"]) == {"n10_k5-gittins-0", "n10_k5-maml-0", "n10_k5-maml-1"}


def test_a_page_without_a_grid_shows_a_companion_too(tmp_path):
    published = load_published(SUITES / "navigation" / "published.yaml")
    made = synthetic_records(methods=("maml",), seeds=(0, 1), iterations=5)
    studies = (made, study_info(methods=("maml",), seeds=(0, 1)), published), (*ablation(), BANDITS)
    page = report(tmp_path, *studies)
    assert "6 of 6 expected runs are done" in text_of(page, "bandits_ablation")
    assert (tmp_path / "navigation" / "bandits_ablation-evidence.csv").exists()
