"""Tables, figures and the page on a made-up study: what they state, and that they state it twice in the same bytes."""

import base64
import dataclasses
import hashlib
import html
import itertools
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from harness.errors import UserError
from reports.comparisons import seed_tests, single_seed_conclusions, task_tests
from reports.export import evidence
from reports.figures import figure_3_2, training_curves
from reports.markup import marked
from reports.overview import ranges
from reports.papers.published_file import load_published
from reports.records import Records
from reports.study_info import StudyInfo
from reports.tables import beside_paper, markdown_table, ours, protocol_table
from tests.reference.synthetic_grid import BANDITS, CELLS, KNOWN, bandit_info, grid_records
from tests.reference.synthetic_runs import METHODS, study_info, synthetic_records
from tests.reference.synthetic_verdicts import AUDITS, JUDGEMENTS, report

PUBLISHED = load_published(Path(__file__).parent.parent / "suites" / "navigation" / "published.yaml")
TABLE_3_3 = PUBLISHED.comparisons[0]


def rows_of(means: dict[tuple[str, int], float], step: int = 0, sd: float = 2.0) -> pd.DataFrame:
    """Evidence with one row per (method, seed)."""
    rows = [
        {
            "method": method, "seed": seed, "protocol": "ulm", "step": step, "mean_return": mean, "sd_over_tasks": sd,
            "tasks": 40, "status": "done", "study": "navigation", "setting": "ulm", "scale": "paper",
        }
        for (method, seed), mean in means.items()
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_ours_averages_over_seeds_by_hand():
    table = ours(rows_of({("maml", 0): -10.0, ("maml", 1): -12.0, ("maml", 2): -14.0}), ["maml"])
    row = table.iloc[0]
    # mean -12, SD over seeds 2, half width t(.975, 2) * 2 / sqrt(3) = 4.3026527 * 1.1547005 = 4.9682754
    assert (row["mean"], row["sd_over_seeds"], row["seeds"], row["sd_over_tasks"]) == (-12, 2, 3, 2)
    assert (row["low"], row["high"]) == pytest.approx((-12 - 4.9682754, -12 + 4.9682754))


def test_diverged_runs_are_not_averaged():
    rows = rows_of({("maml", 0): -10.0, ("maml", 1): -1000.0})
    rows.loc[1, "status"] = "diverged"
    assert ours(rows, ["maml"]).iloc[0]["mean"] == -10


def test_both_maml_rows_stand_beside_the_printed_one():
    rows = rows_of({("maml", 0): -12.0, ("maml_elementwise", 0): -13.0}, step=3)
    table = beside_paper(rows, PUBLISHED, TABLE_3_3, METHODS).set_index(["method", "step"])
    for method, difference in (("maml", 0.26), ("maml_elementwise", -0.74)):
        row = table.loc[(method, 3)]
        assert (row["paper_mean"], row["paper_sd"], row["original_mean"]) == (-12.26, 1.59, -3.2299)
        assert row["difference"] == pytest.approx(difference)
    assert table.loc[("oracle", 1), "seeds"] == 0


def test_seed_tests_pair_by_seed():
    means = {("maml", 0): 2.0, ("maml", 1): 4.0, ("maml", 2): 6.0, ("pretrained", 2): 3.0, ("pretrained", 1): 2.0}
    means |= {("pretrained", 0): 1.0, ("pretrained", 9): 50.0}
    row = seed_tests(rows_of(means), [("maml", "pretrained")], "ulm").iloc[0]
    # differences 1, 2, 3 over the shared seeds: t = 2 sqrt(3), p = 0.0741799; seed 9 has no partner
    assert (row["pairs"], row["difference"], row["df"]) == (3, 2, 2)
    assert (row["t"], row["p"], row["p_holm"]) == pytest.approx((3.4641016, 0.0741799, 0.0741799))


def test_single_seed_tests_are_conditional_and_counted():
    means = {("maml", 0): -10.0, ("pretrained", 0): -20.0, ("maml", 1): -20.0, ("pretrained", 1): -10.0}
    tests = task_tests(rows_of(means), [("maml", "pretrained")], "ulm")
    assert set(tests["unit"]) == {"conditional on this model"}
    assert list(tests["df"]) == [39, 39]
    counts = single_seed_conclusions(tests).iloc[0]
    assert (counts["seeds"], counts["a_better"], counts["b_better"], counts["no_conclusion"]) == (2, 1, 1, 0)


def test_protocols_are_paired_on_the_same_models():
    rows = rows_of({("maml", 0): -10.0, ("maml", 1): -12.0})
    table = protocol_table(
        pd.concat([rows, rows.assign(protocol="x", mean_return=[-13.0, -17.0])]), ["maml"], "ulm", "x"
    )
    assert list(table.loc[0, ["ulm", "x", "difference", "pairs"]]) == [-11, -15, -4, 2]


def test_markdown_table_is_compact():
    lines = markdown_table(rows_of({("maml", 0): -10.0, ("maml", 1): -12.0}), PUBLISHED, ["maml"]).splitlines()
    assert lines[0] == "| method | seeds | 0 updates | 1 update | 2 updates | 3 updates |"
    # one more seed: -11 ± 12.706 * 1.414 * sqrt(1.5) = [-33.0, 11.0], which the printed -42.95 is not in
    assert lines[2] == "| maml | 2 | −11.00 ± 1.41 (−42.95*) | – (−22.85) | – (−13.79) | – (−12.26) |"


def test_seed_ranges():
    assert ranges([0, 1, 2, 5, 7, 8]) == "0–2, 5, 7–8"


@pytest.fixture(scope="module")
def records() -> Records:
    return synthetic_records(seeds=(0, 1, 2), iterations=20)


@pytest.fixture(scope="module")
def page(records, tmp_path_factory) -> Path:
    return report(tmp_path_factory.mktemp("page"), (records, study_info(), PUBLISHED))


def both(records: Records, folder: Path) -> Path:
    """A page over two studies, one with a grid, and a third of which nothing is recorded; verdicts and audits."""
    bandits, gone = (
        (grid_records(CELLS, KNOWN), bandit_info(), BANDITS),
        dataclasses.replace(bandit_info(), name="gone"),
    )
    studies = ((records, study_info(), PUBLISHED), bandits, (None, gone, BANDITS))
    return report(folder, *studies, judgements=JUDGEMENTS, audits=AUDITS)


@pytest.fixture(scope="module")
def pages(records, page, tmp_path_factory) -> dict[str, Path]:
    return {"one study": page, "three studies": both(records, tmp_path_factory.mktemp("both"))}


def files_of(page: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in page.with_suffix("").iterdir()}


def test_same_records_give_the_same_bytes(records, pages, tmp_path):
    again = report(tmp_path / "one", (records, study_info(), PUBLISHED)), both(records, tmp_path / "both")
    for new, old in zip(again, pages.values(), strict=True):
        assert new.read_bytes() == old.read_bytes()
        assert files_of(new) == files_of(old)
    names = {"table_3_3.csv", "per_seed.csv", "figure_3_2_sd_logarithmic.svg", "evidence.csv"}
    assert {f"navigation-{name}" for name in names} <= set(files_of(again[0]))
    assert {"navigation-evidence.csv", "bandits-evidence.csv", "verdicts.csv", "verdicts.tex", "papers.bib"} <= set(
        files_of(again[1])
    )


@pytest.mark.parametrize("which", ["one study", "three studies"])
def test_the_page_needs_nothing_from_outside_and_every_link_leads_somewhere(pages, which):
    text = pages[which].read_text()
    assert text.count("<script") == 1
    assert not re.search(r'(?:src|href)="(?!#|data:|navigation/)', text)
    assert not re.search(r"url\((?!#)", text)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(ids)
    assert set(re.findall(r'href="navigation/([^"]+)"', text)) <= set(files_of(pages[which]))


@pytest.mark.parametrize("which", ["one study", "three studies"])
def test_only_the_script_of_the_page_may_run(pages, which):
    text = pages[which].read_text()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)[1].split("; ")
    script = re.search(r"<script>(.*?)</script>", text, flags=re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert "default-src 'none'" in html.unescape("; ".join(policy))
    assert f"script-src 'sha256-{digest}'" in [html.unescape(part) for part in policy]
    assert not re.search(r"<[^>]* on[a-z]+=", text)


@pytest.mark.parametrize("which", ["one study", "three studies"])
def test_tables_have_captions_and_scopes_and_figures_words(pages, which):
    text = pages[which].read_text()
    for table in re.findall(r'<table(?! class="inner" aria-label=).*?</table>', text, flags=re.DOTALL):
        assert re.search(r"<caption>\S", table)
    assert not re.search(r"<th(?![^>]*scope=)[ >]", text)
    assert not re.search(r'<svg (?!role="img" aria-label="\S)', text)
    levels = [int(level) for level in re.findall(r"<h(\d)", text)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_a_study_without_records_is_on_the_page_and_counted_as_missing(pages):
    text = pages["three studies"].read_text()
    assert "23 of 30 expected runs done" in text
    assert "Bandits: no records" in text
    section = text.split('<section id="gone"')[1].split("</section>")[0]
    assert "No records.</strong> no store." in section
    assert re.search(r'<a href="#gone">.*<td>6</td><td>0</td>.*<strong>no store</strong>', text)


def test_the_summary_counts_by_paper_and_size_what_is_counted(pages):
    text = pages["three studies"].read_text()
    rows = {}
    for line in text.split("Outcomes by paper and size")[2].split("</table>")[0].splitlines():
        if "<tr><th scope" in line:
            head, *cells = (re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", line))
            rows[head, cells[0]] = cells[1:]
    assert rows == {
        ("Ulm report", "published size"): ["1", "1", "1", "·", "1", "2", "·", "·"],
        ("Ulm report", "reduced size"): ["1", *"·······"],
        ("Deleu et al. (2018)", "published size"): ["·", "·", "·", "1", *"····"],
    }
    assert "5 published statements" in text
    assert "3 printed numbers" in text  # the variant is not counted
    assert "1 of these verdicts rest on runs" in text


def test_a_page_without_anything_published_says_so(page):
    text = page.read_text()
    assert "No published statement or number is judged on this page" in text
    for absent in ('id="claims"', 'id="numbers"', 'id="rules"', 'id="audits"'):
        assert absent not in text


def test_a_complete_study_at_the_published_size_has_no_banner(page):
    text = page.read_text()
    assert 'class="banner"' not in text
    assert "18 of 18 expected runs are done, with 3 training seeds (0–2)" in text


def test_labels_are_escaped(tmp_path):
    label = "<script>alert(1)</script>"
    made = synthetic_records(methods=("maml", label), seeds=(0, 1), iterations=5)
    text = report(tmp_path, (made, study_info(methods=("maml", label), seeds=(0, 1)), PUBLISHED)).read_text()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert marked("`a` <b>") == "<code>a</code> &lt;b&gt;"


def without(records: Records, run_ids: list[str], status: str | None = None) -> Records:
    """The records without these runs, or with them in another state and without returns."""
    gone = records.runs["run_id"].isin(run_ids)
    runs = records.runs.assign(status=records.runs["status"].mask(gone, status)) if status else records.runs[~gone]
    kept = records.returns[~records.returns["run_id"].isin(run_ids)]
    return dataclasses.replace(records, runs=runs.reset_index(drop=True), returns=kept)


def test_an_incomplete_study_says_so(records, tmp_path):
    partial = without(without(records, ["maml-2"]), ["fomaml-1"], "diverged")
    partial = without(without(partial, ["oracle-0"], "failed"), ["random-0"], "running")
    text = report(tmp_path, (partial, study_info(), PUBLISHED)).read_text()
    assert "14 of 18 expected runs are done; 1 diverged, 1 failed, 1 started but not finished, 1 missing" in text
    assert "fomaml, seed 1: diverged" in text


def test_one_seed_one_method_one_protocol_at_smoke_scale(tmp_path):
    made = synthetic_records(methods=("pretrained",), seeds=(4,), scale="smoke", iterations=3)
    made = dataclasses.replace(made, returns=made.returns[made.returns["protocol"].eq("inner_rule")])
    text = report(tmp_path, (made, study_info(scale="smoke"), PUBLISHED)).read_text()
    assert "Smoke test, not a replication" in text
    assert "0 of 18 expected runs are done" in text
    assert "No finished run has the protocol <code>ulm</code>" in text
    assert "SD, interval and test over seeds are undefined" in text


def test_a_study_of_which_nothing_has_finished(records, tmp_path):
    running = without(records, list(records.runs["run_id"]), "running")
    text = report(tmp_path, (running, study_info(), PUBLISHED)).read_text()
    assert "0 of 18 expected runs are done; 0 diverged, 0 failed, 18 started but not finished, 0 missing" in text
    assert "−12.26 ± 1.59" in text


def test_a_folder_that_cannot_be_written(tmp_path):
    records = synthetic_records(methods=("maml",), seeds=(0,), iterations=2)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        report(tmp_path / "file", (records, study_info(), PUBLISHED))


def test_figures_are_text_without_date_and_draw_every_method_once(records):
    svg = figure_3_2(evidence(records, {}), PUBLISHED, TABLE_3_3, METHODS, "sd", log=True)
    assert svg == figure_3_2(evidence(records, {}), PUBLISHED, TABLE_3_3, METHODS, "sd", log=True)
    assert "<dc:date>" not in svg
    assert svg.count(">maml_elementwise</text>") == 1
    assert ">−20</text>" in svg


def test_curves_with_gaps_are_drawn(records):
    curves = records.curves.copy()
    curves.loc[curves["iteration"].gt(10) & curves["run_id"].eq("maml-0"), "value"] = float("nan")
    assert ">maml</text>" in training_curves(curves, records.runs, METHODS, "pre_update_return", "return")


def test_reports_import_without_torch_and_mlflow():
    code = "import sys, reports.page, reports.records; print('torch' in sys.modules, 'mlflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_a_smoke_test_never_replaces_the_page_of_a_replication():
    names = [StudyInfo("navigation", "t", scale, (), (), ()).stem for scale in ("paper", "smoke")]
    assert names == ["navigation", "navigation_smoke"]


def test_the_markdown_table_refuses_evidence_that_is_not_what_it_is_set_beside():
    smoke = rows_of({("maml", 0): -10.0}).assign(scale="smoke")
    with pytest.raises(UserError, match="no paper-scale run of study navigation"):
        markdown_table(smoke, PUBLISHED, ["maml"])
