"""The papers' statements in the published files: each asks for what exists, of our runs and of the printed tables."""

import ast
from collections import Counter
from functools import cache
from itertools import pairwise, product
from pathlib import Path

import pandas as pd
import pytest
import yaml

from harness.composition import AUDIT
from harness.study import Study
from harness.study_source import find_study, scales_of, study_files
from reports.estimators.numbers import FIRST_ORDER, OF_HESSIAN, STATISTICS, STUDY, setting_name
from reports.exhibits.plane import NUMBERS
from reports.exhibits.seconds import TOTAL, UPDATES
from reports.papers.checks import AgainstPrinted, Check, Headroom, Identity, Jump, Rising, Side
from reports.papers.exhibits import LearningExhibit, PlaneExhibit, SecondsExhibit, SpreadExhibit
from reports.papers.printed import ResultsTable
from reports.papers.published_file import WITHOUT_SUITE, load_published
from tests.harness_fixtures import PROJECT, load

SUITES = PROJECT / "suites"
FILES = [*sorted(SUITES.glob("*/published.yaml")), WITHOUT_SUITE]
PUBLISHED = {file: load_published(file) for file in FILES}
CLAIMS = [(file, claim) for file, published in PUBLISHED.items() for claim in published.claims]
CHECKED = [(file, claim) for file, claim in CLAIMS if isinstance(claim.check, Check)]
OF_RUNS = [(file, claim) for file, claim in CHECKED if claim.check.study != STUDY]
OF_THE_AUDIT = [(file, claim) for file, claim in CHECKED if claim.check.study == STUDY]
IDENTITIES = [(file, claim) for file, claim in CLAIMS if isinstance(claim.check, Identity)]
BETWEEN_OURS = [(file, claim) for file, claim in CHECKED if hasattr(claim.check, "second")]
IN_PRINT = [(file, claim) for file, claim in CHECKED if isinstance(claim.check, AgainstPrinted | Headroom)]
WITH_MARGIN = [(file, claim) for file, claim in CHECKED if getattr(claim.check, "margin", None)]

PREFIXES = {
    "ulm": "ulm2022_maml_replication",
    "finn": "finn2017_maml",
    "raghu": "raghu2020_rapid_learning",
    "deleu": "deleu2018_reproducibility",
    "promp": "rothfuss2019_promp",
    "kit": "kit_survey",
}
REQUIRED = {
    "ulm.maml_beats_pretrained_after_1_step",
    "ulm.fomaml_at_least_maml",
    "ulm.maml_keeps_improving",
    "ulm.seed_2_breaks_the_claim",
    "ulm.larger_meta_batch_changes_nothing",
    "finn.one_step_minus_11_7",
    "deleu.maml_matches_snail",
    "deleu.reptile_below_maml_on_mdps",
    "promp.dice_variance_60_percent_above_lvc",
    "promp.lvc_identifies_corner_tasks",
    "promp.formulation_I_beats_II",
    "promp.dice_hessian_is_unbiased",
    "promp.likelihood_ratio_equals_lvc_at_the_old_policy",
}
PERFECT = 1.0
"""The one end of a margin that no paper prints: a fraction of the optimum, in the tables that print such fractions."""


def each(claims):
    """A test per claim, under the claim's name."""
    return pytest.mark.parametrize(("file", "claim"), claims, ids=[claim.id for _, claim in claims])


@cache
def study(name: str, scale: str) -> Study:
    return load(find_study(name, SUITES), scale)


def settings(check) -> dict[str, dict]:
    """The settings that a check asks for, with their coordinates."""
    known = study(check.study, check.scale).file.settings_and_columns()
    return {name: known[name] for name in (known if check.settings is None else check.settings)}


def steps(check) -> list[int]:
    """The adaptation steps that a check asks for, the sides' own included; none where a run has its number once."""
    if not check.protocol:
        return []
    last = study(check.study, check.scale).file.evaluation.protocols[check.protocol].updates
    own = [side.step for side in sides(check) if side.step is not None]
    return [*([last] if check.steps is None else check.steps), *own]


def sides(check) -> list[Side]:
    if isinstance(check, Rising | Jump):
        return [Side(method=check.method)]
    return [getattr(check, name) for name in ("first", "second") if hasattr(check, name)]


def coordinates(check) -> list[dict]:
    """Where in a printed table the cells of a check stand."""
    given = getattr(check, "coordinates", {})
    asked = steps(check) if check.steps is None else check.steps
    return [{**columns, "iteration": step, **given} for columns in settings(check).values() for step in asked or [None]]


def printed(file: Path, claim, table: str) -> ResultsTable:
    return PUBLISHED[file].results(claim.paper, table)


@cache
def evidence_columns(name: str, scale: str) -> set[str]:
    """What the committed evidence of a study knows about a run, beside what is there for every study."""
    path = PROJECT / "reports" / "evidence" / f"{name}{'' if scale == 'paper' else f'_{scale}'}.csv"
    return set(pd.read_csv(path, nrows=0).columns) if path.is_file() else {"mean_return"}


def once_per_run(file: Path, name: str) -> set[str]:
    """The numbers that a run of a study has once: scores of a grid, and what exhibits make of its training curves."""
    known = {"score_during", "score_adapted"} if PUBLISHED[file].grids_of(name) else set()
    for exhibit in PUBLISHED[file].exhibits_of(name):
        if isinstance(exhibit, SpreadExhibit):
            known |= {*exhibit.spreads, f"{exhibit.outcome}_last"}
        elif isinstance(exhibit, LearningExhibit):
            known |= {f"{exhibit.outcome}_all", f"{exhibit.outcome}_last"}
        elif isinstance(exhibit, SecondsExhibit):
            known |= {TOTAL, UPDATES}
        elif isinstance(exhibit, PlaneExhibit):
            known |= {*NUMBERS, "away"}
    return known


def test_every_suite_and_the_file_without_one_state_claims():
    assert [file.parent.name for file, published in PUBLISHED.items() if not published.claims] == []


def test_ids_are_unique_over_all_files():
    assert [id_ for id_, count in Counter(claim.id for _, claim in CLAIMS).items() if count > 1] == []


def test_the_claims_that_other_places_refer_to_are_there():
    assert sorted(REQUIRED - {claim.id for _, claim in CLAIMS}) == []


@each(CLAIMS)
def test_ids_begin_with_the_paper(file, claim):
    assert claim.paper == PREFIXES[claim.id.partition(".")[0]]


@each([(file, claim) for file, claim in CLAIMS if claim.not_testable])
def test_what_cannot_be_tested_says_why_in_one_sentence(file, claim):
    reason = claim.not_testable
    assert reason.endswith(".")
    assert ". " not in reason.removesuffix(".")


@pytest.mark.parametrize("claim", PUBLISHED[WITHOUT_SUITE].claims, ids=lambda claim: claim.id)
def test_claims_without_a_suite_ask_for_no_runs(claim):
    assert not isinstance(claim.check, Check)


@each(IDENTITIES)
def test_what_is_said_to_hold_identically_is_stated_by_a_test(file, claim):
    path, _, function = claim.check.test.partition("::")
    source = ast.parse((PROJECT / path).read_text(encoding="utf-8"))
    (found,) = [node for node in source.body if isinstance(node, ast.FunctionDef) and node.name == function]
    marks = [ast.unparse(mark) for mark in found.decorator_list]
    assert not [mark for mark in marks if "skip" in mark or "xfail" in mark]


@each(OF_THE_AUDIT)
def test_claims_about_estimators_ask_for_what_the_audit_measures(file, claim):
    check, audit = claim.check, yaml.safe_load(AUDIT.read_text(encoding="utf-8"))
    cells = product(audit["stages"], audit["inner_lrs"], audit["episodes"], audit["baselines"])
    known = {setting_name(*cell) for cell in cells}
    asked = [*(check.settings or []), *(side.setting for side in sides(check) if side.setting)]
    assert sorted(set(asked) - known) == []
    assert len(set(asked)) == len(asked) or any(side.setting for side in sides(check))
    assert (check.scale, check.protocol, check.steps) == ("paper", "", None)
    quantities = ["meta_gradient", "curvature"]
    for side in sides(check):
        measured = audit["estimators"][side.method].get("quantities", quantities)
        columns = {f"{quantity}_{name}" for quantity in measured for name in STATISTICS}
        if "curvature" in measured:
            columns |= {"h12_share", *OF_HESSIAN.values()}
        assert check.column in columns
    assert FIRST_ORDER in audit["estimators"]


@each([(file, claim) for file, claim in IN_PRINT if getattr(claim.check, "same_tasks", False)])
def test_tasks_that_are_said_to_be_the_same_are_nearly_all_the_originals(file, claim):
    """Draws 1 to 40 of NumPy's generator with seed 1 are the original's, as `navigation_original.yaml` has them."""
    goals = study(claim.check.study, claim.check.scale).file.settings["test_goals"]
    assert (goals["source"], goals["seed"]) == ("numpy", 1)
    assert goals["skip"] <= 1
    assert claim.paper == PREFIXES["finn"]


@each(OF_RUNS)
def test_studies_and_scales_exist(file, claim):
    for name in {claim.check.study, *(side.study or claim.check.study for side in sides(claim.check))}:
        assert name in study_files(SUITES)
        assert claim.check.scale in scales_of(find_study(name, SUITES))


@each(OF_RUNS)
def test_methods_exist(file, claim):
    for side in sides(claim.check):
        assert side.method in study(side.study or claim.check.study, claim.check.scale).file.methods


@each(OF_RUNS)
def test_settings_exist(file, claim):
    known = study(claim.check.study, claim.check.scale).file.settings_and_columns()
    assert set(claim.check.settings or []) <= set(known)
    for side in (side for side in sides(claim.check) if side.setting):
        assert side.setting in study(side.study or claim.check.study, claim.check.scale).file.settings_and_columns()
        assert len(settings(claim.check)) == 1, "a side in a setting of its own is compared once"


@each([(file, claim) for file, claim in CHECKED if any(side.study for side in sides(claim.check))])
def test_sides_of_other_studies_have_the_same_settings_or_a_single_one(file, claim):
    for side in sides(claim.check):
        known = study(side.study or claim.check.study, claim.check.scale).file.settings_and_columns()
        assert len(known) == 1 or set(settings(claim.check)) <= set(known)


@each(OF_RUNS)
def test_protocols_measure_after_every_step_that_is_asked(file, claim):
    check = claim.check
    if not check.protocol:
        assert not check.steps
        return
    for side in sides(check):
        protocols = study(side.study or check.study, check.scale).file.evaluation.protocols
        assert check.protocol in protocols
        assert max(steps(check)) <= protocols[check.protocol].updates


@each(OF_RUNS)
def test_columns_exist(file, claim):
    check = claim.check
    if check.protocol:
        assert check.column == "mean_return" or check.column in evidence_columns(check.study, check.scale)
    else:
        assert check.column in once_per_run(file, check.study)


@each([(file, claim) for file, claim in CHECKED if isinstance(claim.check, Headroom)])
def test_bounds_are_known_exactly(file, claim):
    assert claim.check.bound in evidence_columns(claim.check.study, claim.check.scale)


@each(BETWEEN_OURS)
def test_nothing_is_compared_with_itself(file, claim):
    assert claim.check.first != claim.check.second


@each([(file, claim) for file, claim in CHECKED if isinstance(claim.check, Rising | Jump)])
def test_steps_of_a_rise_follow_each_other(file, claim):
    assert all(before < after for before, after in pairwise(claim.check.steps))


@each(IN_PRINT)
def test_a_number_is_printed_for_every_cell(file, claim):
    check = claim.check
    table = printed(file, claim, check.table)
    for method in [check.printed]:
        for where in coordinates(check):
            cell = table.cell(method, where)
            assert cell is not None, f"table {check.table} prints nothing of {method} at {where}"
            assert cell.mean is not None, f"table {check.table} prints a dash for {method} at {where}"


@each(WITH_MARGIN)
def test_margins_give_a_reason_that_is_not_ours(file, claim):
    words = claim.check.margin.rationale.lower().split()
    assert len(words) > 10
    assert not {"our", "ours", "we"} & set(words)


@each([(file, claim) for file, claim in WITH_MARGIN if claim.check.margin.fraction])
def test_margins_lie_between_printed_numbers_of_every_cell(file, claim):
    margin = claim.check.margin
    table = printed(file, claim, margin.table or claim.check.table)
    numbers = {
        row.mean
        for paper in PUBLISHED[file].papers
        for t in paper.tables
        if isinstance(t, ResultsTable)
        for row in t.rows
    }
    for where in coordinates(claim.check):
        ends = []
        for end in (margin.upper, margin.lower):
            cell = table.cell(end, where) if isinstance(end, str) else None
            assert cell or not isinstance(end, str), f"table {table.id} prints nothing of {end} at {where}"
            ends.append(cell.mean if cell else end)
        assert ends[0] > ends[1]
        assert set(ends) <= numbers | {PERFECT}, "an end of the margin is no printed number"
