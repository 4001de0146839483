"""Verdicts on the page, and as CSV, LaTeX and BibTeX: what is counted, what is said, and where it comes from."""

import base64
import io
import re
from html import unescape
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from reports import latex, verdict_figures
from reports.attachments import Attachments
from reports.markup import breakable, p_value, sort_key
from reports.papers.published_file import load_published
from reports.verdict_blocks import Origin, claims, digest, numbers, summary
from reports.verdict_files import difference, frame, leave, rows_frame
from reports.verdicts import Verdict
from tests.reference.synthetic_runs import study_info, synthetic_records
from tests.reference.synthetic_verdicts import AUDITS, CLAIMS, JUDGEMENTS, NUMBERS, PAPERS, judgement, report, row

PUBLISHED = load_published(Path(__file__).parent.parent / "suites" / "navigation" / "published.yaml")
ORIGIN = Origin(
    "navigation", "2D navigation", "paper", ("abc1234",), "metarepro run navigation", "runs.csv", {"maml": 3}
)
ORIGINS = {("navigation", "paper"): ORIGIN}
T_975 = float(stats.t.ppf(0.975, 2))


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    made = synthetic_records(methods=("maml",), seeds=(0, 1, 2), iterations=3), study_info(methods=("maml",)), PUBLISHED
    return report(tmp_path_factory.mktemp("page"), made, judgements=JUDGEMENTS, audits=AUDITS).read_text()


def body_of(page: str, name: str) -> str:
    """The lines of one judgement."""
    return re.split(r'<tbody id="v-|</table></div>', page.split(f'<tbody id="v-{name}"')[1])[0]


def words(html: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html))).strip()


# What is counted


def test_a_variant_is_shown_and_not_counted():
    counts = summary(JUDGEMENTS, PAPERS)
    assert counts["totals"] == {
        "claim": {"replicates": 2, "fails": 1, "undecided": 1, "untested": 1},
        "number": {"replicates": 1, "fails": 2, "undecided": 0, "untested": 0},
    }
    assert counts["variants"] == 1
    block = numbers(Attachments(), JUDGEMENTS, (), ORIGINS)[0]
    assert (len(block["rows"]), block["variants"], sum(block["counts"].values())) == (4, 1, 3)


def test_papers_are_in_the_order_of_the_references_and_reduced_sizes_apart():
    rows = summary(JUDGEMENTS, PAPERS[::-1])["rows"]
    assert [(one["paper"], one["size"]) for one in rows] == [
        ("Deleu et al. (2018)", "published size"),
        ("Ulm report", "published size"),
        ("Ulm report", "reduced size"),
    ]
    unknown = summary([*JUDGEMENTS, judgement("x.y", Verdict.NOT_TESTABLE, paper="Another")], PAPERS)["rows"]
    assert unknown[-1]["paper"] == "Another"


def test_every_word_is_there_with_its_count_and_the_outcome_it_means():
    found = {one["verdict"]: (one["slug"], one["counts"]) for one in summary(JUDGEMENTS, PAPERS)["words"]}
    assert set(found) == set(Verdict)
    assert found[Verdict.EQUIVALENT] == ("replicates", {"claim": 1, "number": 1})
    assert found[Verdict.REVERSED] == ("fails", {"claim": 1, "number": 0})


# What is said of one


def test_statements_are_ordered_by_outcome():
    rows = claims(Attachments(), JUDGEMENTS, AUDITS, ORIGINS)["rows"]
    assert [one["slug"] for one in rows] == ["replicates", "replicates", "fails", "undecided", "untested"]
    assert rows[3]["flags"] == [("df", "The tests have 39 degrees of freedom")]


def test_a_single_comparison_is_in_the_line_itself(page):
    body = body_of(page, "ulm.order_fails")
    half = 0.5 * T_975  # 2.15
    assert f"−3.00 [−{3 + half:.2f}, −{3 - half:.3f}]" in words(body)
    assert 'data-sort="-3"' in body
    assert "✗ REVERSED" in words(body)
    assert "3 no" in words(body)
    assert (
        "From 3 finished runs of maml, code abc1234, made by metarepro run navigation : navigation-runs.csv"
        in words(body)
    )


def test_several_comparisons_are_below_the_line_and_sorted_by_the_smallest(page):
    body = body_of(page, "ulm.order_holds")
    assert "2 comparisons" in words(body)
    assert "2.00 to 9.00" in words(body)
    assert 'data-sort="2"' in body
    assert "All 2 comparisons" in words(body)
    assert "after 1 update" in words(body)
    assert "A note on maml ." in words(body)
    assert "1.2·10⁻⁵" in words(body)
    assert "1 yes, 1 no, 1 neither" in words(body)
    assert "Adjusted within “claims”" in words(body)


def test_what_cannot_be_tested_is_shown_with_its_reason(page):
    body = words(body_of(page, "deleu.no_runs"))
    assert "∅ NOT TESTABLE" in body
    assert "Because of deleu.no_runs." in body


def test_other_readings_are_named_only_where_they_change_the_verdict(page):
    assert "Read otherwise" not in words(body_of(page, "table_3_3.maml.0"))
    spread = "Other readings of the printed spread (its seeds scatter as ours; over test tasks) change 1 of 4 verdicts."
    assert spread in words(page)
    assert "Read otherwise: over test tasks: inconclusive." in words(body_of(page, "table_3_3.maml.1"))


def test_runs_of_a_reduced_size_are_marked(page):
    body = body_of(page, "ulm.at_reduced_size")
    assert 'data-size="reduced size"' in body
    assert "none on this page" in words(body)


def test_audits_and_judgements_lead_to_each_other(page):
    assert '<a href="#audit-df">' in body_of(page, "ulm.undecided_one")
    audit = page.split('<section id="audit-df"')[1].split("</section>")[0]
    assert '<a href="#numbers-table_3_3">Table 3.3</a>, <a href="#v-ulm.undecided_one">' in audit
    assert ", ulm.elsewhere." in audit  # not on this page
    assert "✓ borne out All twelve have 39." in words(audit)
    assert "<td>4.310</td>" in audit
    assert "data missing" in words(page.split('<section id="audit-gone"')[1].split("</section>")[0])


def test_a_study_begins_with_what_its_runs_say(page):
    info = study_info(methods=("maml",))
    blocks = numbers(Attachments(), JUDGEMENTS, (), ORIGINS)
    found = digest(JUDGEMENTS, blocks, info)
    assert [one["judgement"].id for one in found["claims"]] == [
        "ulm.order_holds",
        "ulm.order_fails",
        "ulm.undecided_one",
    ]
    assert [block["key"] for block in found["tables"]] == ["table_3_3"]
    section = page.split('<section id="navigation"')[1].split("<h3")[1]
    assert "1 replicates" in words(section)
    assert "2 do not replicate" in words(section)


def test_text_from_outside_is_escaped(tmp_path):
    bad = judgement("x.y", Verdict.EQUIVALENT, row(0.1), statement="<img src=x>", reason="`<b>` & more", paper='"><i>')
    made = synthetic_records(methods=("maml",), seeds=(0, 1), iterations=2), study_info(methods=("maml",)), PUBLISHED
    text = report(tmp_path, made, judgements=[bad]).read_text()
    for tag in ("<img", "<b>", "<i>"):
        assert tag not in text
    assert "<code>&lt;b&gt;</code> &amp; more" in text


# Figures


def test_the_forest_is_in_units_of_the_printed_sd_where_every_number_has_one():
    forest = verdict_figures.forest(NUMBERS)
    assert forest.unit == "the paper’s SD"
    assert forest.svg.count(">maml, after 0 updates</text>") == 1
    assert ">−13</text>" in forest.svg  # −20 / 1.59, off the axis: an arrow and its value
    assert "arrow: beyond the axis (1)" in forest.caption
    assert forest == verdict_figures.forest(NUMBERS)


def test_without_a_printed_sd_the_unit_is_the_margin_and_the_caption_says_so():
    forest = verdict_figures.forest([judgement("t.a.1", Verdict.EQUIVALENT, row(0.1)), *NUMBERS])
    assert forest.unit == "the declared margin"
    assert "the paper prints no SD of all of these" in forest.caption
    assert verdict_figures.forest([judgement("t.a.1", Verdict.NOT_TESTABLE, row(None))]) is None


def test_single_seeds_are_symbols_not_only_colours():
    svg = verdict_figures.seed_sensitivity([one for one in CLAIMS if one.alone])
    assert svg.count(">✓</text>") == 1
    assert svg.count(">✗</text>") == 4
    assert svg.count(">–</text>") == 1
    assert ">does not replicate</text>" in svg


# Files


def test_the_csv_has_what_led_to_every_verdict():
    table = frame(JUDGEMENTS, ORIGINS).set_index("id")
    one = table.loc["ulm.order_fails"]
    assert (one["difference"], one["se"], one["df"], one["seeds"]) == (-3, 0.5, 2, 3)
    assert one["high"] == pytest.approx(-3 + 0.5 * T_975)
    assert (one["code_versions"], one["runs"], one["command"]) == ("abc1234", "runs.csv", "metarepro run navigation")
    assert table.loc["ulm.order_holds", "comparisons"] == 2
    assert table.loc["ulm.order_holds", "alone"] == "0:yes 1:no 2:–"
    assert table.loc["ulm.undecided_one", "seeds_needed"] == 14
    assert list(rows_frame(CLAIMS)["id"]).count("ulm.order_holds") == 2


def test_the_files_inside_the_page_are_those_beside_it():
    files = Attachments()
    made = {one["name"]: one for one in leave(files, JUDGEMENTS, PAPERS, ORIGINS)}
    for name, one in made.items():
        assert base64.b64decode(one["uri"].partition(",")[2]).decode() == files.contents[name]
    assert len(pd.read_csv(io.StringIO(files.contents["verdicts.csv"]))) == len(JUDGEMENTS)
    assert files.contents["papers.bib"].count("@") == 2
    assert {one["text"] for one in leave(Attachments(), [], [], {})} >= {""}


def test_differences_as_text():
    assert difference(CLAIMS[1]) == "2.00 to 9.00"
    assert difference(CLAIMS[3]) == "–"


def test_latex_is_escaped_and_cites():
    one = judgement("a.b", Verdict.DIFFERENT_WORSE, row(-1.0), statement="50 % of α_1 ≥ 3·10⁻⁵ & $x$")
    text = latex.table([one], {"a.b": "−1 ± 2"}, {"Ulm report": "ulm2022"})
    line = next(line for line in text.splitlines() if line.startswith("50"))
    assert line.startswith(
        r"50 \% of $\alpha$\_1 $\geq$ 3$\cdot$10$^{-5}$ \& \$x\$ (section 3.2)~\cite{ulm2022} & $-$12.26"
    )
    assert line.endswith(r"& $-$1 $\pm$ 2 & different worse \\")
    assert line.count(" & ") == 4
    assert text.count(r"\begin{longtable}") == text.count(r"\end{longtable}") == 1


# Words and keys


def test_two_blocks_that_write_one_file_are_an_error():
    files = Attachments().of("a")
    assert files.text("b c.csv", "") == "a-b_c.csv"
    with pytest.raises(ValueError, match=r"two blocks of the page write a-b_c\.csv"):
        files.text("b c.csv", "")
    assert files.of("b").text("c.csv", "") == "a-b-c.csv"


def test_keys_for_sorting_and_text_for_reading():
    assert [sort_key(value) for value in (None, float("nan"), -0.5, 1.2e-5)] == ["", "", "-0.5", "1.2e-05"]
    assert [p_value(p) for p in (0.5, 0.0312, 1.2e-5, 0.0, None)] == ["0.50", "0.031", "1.2·10⁻⁵", "0", "–"]
    assert breakable("a.b_<") == "a.<wbr>b_<wbr>&lt;"
