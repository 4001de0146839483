"""The suites' published.yaml: their numbers, the audit of navigation's, and what the loader refuses."""

from pathlib import Path

import pytest
import yaml

from harness.errors import UserError
from reports.comparisons import printed_tests
from reports.markup import p_value
from reports.papers.published_file import load_published

PUBLISHED = Path(__file__).parent.parent / "suites" / "navigation" / "published.yaml"


@pytest.fixture(scope="module")
def published():
    return load_published(PUBLISHED)


@pytest.mark.parametrize(
    ("paper", "table", "method", "step", "mean", "sd"),
    [
        ("ulm2022_maml_replication", "3.3", "maml", 3, -12.26, 1.59),
        ("ulm2022_maml_replication", "3.3", "oracle", 1, -8.48, 1.59),
        ("ulm2022_maml_replication", "3.3", "random", 0, -77.40, 14.01),
        ("ulm2022_maml_replication", "B.1", "pretrained", 2, -28.29, 12.11),
        ("finn2017_maml", "raw_point", "maml", 1, -11.6800, 7.0717),
        ("finn2017_maml", "published_corrected", "maml", 3, -3.23, None),
        ("finn2017_maml", "ulm_quote", "maml", 3, -3.32, None),
    ],
)
def test_printed_numbers(published, paper, table, method, step, mean, sd):
    row = published.results(paper, table).row(method, step)
    assert (row.mean, row.std) == (mean, sd)


@pytest.mark.parametrize(
    ("suite", "table", "method", "setting", "mean", "ci95", "n"),
    [
        ("bandits", "1", "gittins", {"N": 10, "K": 5}, 6.6, None, None),
        ("bandits", "1", "maml", {"N": 10, "K": 5}, 7.0, 0.1, 1000),
        ("bandits", "1", "reptile", {"N": 10, "K": 10}, 7.1, 0.3, 1000),
        ("bandits", "1", "snail", {"N": 100, "K": 50}, 85.1, 0.6, None),
        ("bandits", "1", "maml_mishra", {"N": 100, "K": 5}, 67.1, 1.1, None),
        ("bandits", "1", "maml_mishra", {"N": 500, "K": 50}, None, None, None),
        ("bandits", "1", "maml", {"N": 500, "K": 5}, 416.8, 0.6, 1000),
        ("bandits", "1", "random", {"N": 1000, "K": 50}, 499.8, None, None),
        ("bandits", "1", "reptile", {"N": 1000, "K": 50}, 920.8, 7.2, 1000),
        ("tabular_mdp", "2", "random", {"N": 50}, 0.481, None, None),
        ("tabular_mdp", "2", "maml_mishra", {"N": 10}, 0.563, None, None),
        ("tabular_mdp", "2", "maml_mishra", {"N": 75}, None, None, None),
        ("tabular_mdp", "2", "snail", {"N": 25}, 0.862, 0.001, None),
        ("tabular_mdp", "2", "maml", {"N": 100}, 0.944, 0.019, 1000),
        ("tabular_mdp", "2", "reptile", {"N": 100}, 0.826, 0.102, 1000),
    ],
)
def test_printed_grids(suite, table, method, setting, mean, ci95, n):
    found = load_published(PUBLISHED.parent.parent / suite / "published.yaml")
    row = found.results("deleu2018_reproducibility", table).cell(method, {**setting, "input": 0})
    assert (row.mean, row.ci95, row.n) == (mean, ci95, n)
    assert (row.note == "printed as a dash") == (mean is None)


@pytest.mark.parametrize(
    ("suite", "table", "settings", "means"),
    [
        ("bandits", "1", 10, {"maml": 2490.3, "gittins": 2517.6}),
        ("tabular_mdp", "2", 5, {"maml": 4.396, "random": 2.408}),
    ],
)
def test_grids_are_complete(suite, table, settings, means):
    found = load_published(PUBLISHED.parent.parent / suite / "published.yaml")
    rows = found.results("deleu2018_reproducibility", table).rows
    grids = found.grids_of(suite)
    assert [grid.table for grid in grids] == [table]
    assert {row.method for row in rows} == set(grids[0].methods)
    assert len(rows) == settings * len(grids[0].methods)
    for method, total in means.items():
        assert sum(row.mean for row in rows if row.method == method) == pytest.approx(total)


def test_columns_say_what_they_count():
    bandits = load_published(PUBLISHED.parent.parent / "bandits" / "published.yaml").grids_of("bandits")[0]
    counted = {name: column.accounting for name, column in bandits.methods.items()}
    assert counted == {
        "gittins": "during", "random": "during", "snail": "during", "maml_mishra": "unknown", "maml": "adapted",
        "reptile": "adapted",
    }  # fmt: skip
    assert [bandits.accounting(label) for label in ("maml", "gittins", "ucb1", "fomaml", "new")] == [
        "adapted", "during", "during", "adapted", "adapted",
    ]  # fmt: skip


# t and p exactly as Tables 3.4 and B.1 print them
PRINTED = {
    "table_3_3": [("0.78", "0.44"), ("4.31", "0.0001"), ("6.69", "0.00000006"), ("5.87", "0.0000008")],
    "table_b_1": [
        ("0.75", "0.46"), ("2.56", "0.014"), ("3.55", "0.0010"), ("3.51", "0.0011"),
        ("0.82", "0.42"), ("0.26", "0.80"), ("0.99", "0.33"), ("1.66", "0.10"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("comparison_id", sorted(PRINTED))
def test_recomputed_tests_equal_the_printed_ones_to_their_precision(published, comparison_id):
    comparison = next(c for c in published.comparisons if c.id == comparison_id)
    rows = printed_tests(published, comparison).to_dict("records")
    assert len(rows) == len(PRINTED[comparison_id])
    for row, (t, p) in zip(rows, PRINTED[comparison_id], strict=True):
        assert f"{abs(row['recomputed_t']):.2f}" == t
        assert f"{row['recomputed_p']:.{len(p) - 2}f}" == p
        assert (row["recomputed_df"], row["named_df"]) == (39, 78)
        assert row["named_t"] == pytest.approx(row["recomputed_t"])  # equal n: only df differs
        assert row["named_p"] < row["recomputed_p"]


def test_p_values_keep_two_digits():
    assert [p_value(p) for p in (0.44, 0.01449, 0.00103, 5.7e-8)] == ["0.44", "0.014", "0.0010", "5.7·10⁻⁸"]


def broken(change, source: Path = PUBLISHED) -> str:
    data = yaml.safe_load(source.read_text())
    change(data, data["papers"][0]["tables"])
    return yaml.safe_dump(data)


def drop_mean(data, tables):
    del tables[2]["rows"][5]["mean"]


def drop_n(data, tables):
    tables[2]["rows"][5]["n"] = None


def add_key(data, tables):
    tables[2]["rows"][5]["sd"] = 1.0


def text_for_number(data, tables):
    tables[2]["rows"][5]["mean"] = "about -12"


def unknown_method(data, tables):
    data["comparisons"][0]["methods"]["mammal"] = ["maml"]


def duplicate_row(data, tables):
    tables[2]["rows"].append(dict(tables[2]["rows"][5]))


def dash_without_note(data, tables):
    del next(row for row in tables[0]["rows"] if row["mean"] is None)["note"]


def dash_with_interval(data, tables):
    next(row for row in tables[0]["rows"] if row["mean"] is None)["ci95"] = 0.1


def own_column_without_interval(data, tables):
    del next(row for row in tables[0]["rows"] if row["method"] == "maml")["ci95"]


def origin_of_nothing(data, tables):
    tables[0]["column_origin"]["mammal"] = "own"


def unknown_printed_column(data, tables):
    data["grid_comparisons"][0]["methods"]["mammal"] = {"accounting": "during"}


def unknown_coordinate(data, tables):
    data["grid_comparisons"][1]["where"]["M"] = 3


def label_twice(data, tables):
    data["grid_comparisons"][0]["ours"]["maml"] = "during"


def unknown_accounting(data, tables):
    data["grid_comparisons"][0]["methods"]["maml"]["accounting"] = "before"


def unknown_grid_table(data, tables):
    data["grid_comparisons"][0]["table"] = "9"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (dash_without_note, ["tables[1].rows[", "no mean", "note"]),
        (dash_with_interval, ["tables[1].rows[", "no mean"]),
        (own_column_without_interval, ["tables[1]", "row maml", "disagrees on ci95"]),
        (origin_of_nothing, ["tables[1]", "column_origin", "mammal"]),
        (unknown_printed_column, ["table_1", "mammal"]),
        (unknown_coordinate, ["table_1_ablation", "no column M"]),
        (label_twice, ["table_1", "maml is named more than once"]),
        (unknown_accounting, ["grid_comparisons[table_1].methods.maml.accounting", "before"]),
        (unknown_grid_table, ["table_1", "no results table 9"]),
    ],
)
def test_a_broken_grid_is_refused_in_one_line(tmp_path, change, says):
    path = tmp_path / "published.yaml"
    path.write_text(broken(change, PUBLISHED.parent.parent / "bandits" / "published.yaml"))
    with pytest.raises(UserError) as refusal:
        load_published(path)
    message = str(refusal.value)
    assert "\n" not in message
    for part in [str(path), *says]:
        assert part in message


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (drop_mean, ["[ulm2022_maml_replication].tables[3.3].rows[5].mean", "missing"]),
        (drop_n, ["tables[3.3]", "row fomaml {'iteration': 1}", "interval without n"]),
        (add_key, ["rows[5].sd", "unknown field"]),
        (text_for_number, ["rows[5].mean", "number", "about -12"]),
        (unknown_method, ["table_3_3", "mammal"]),
        (duplicate_row, ["tables[3.3]", "twice"]),
    ],
)
def test_a_broken_file_is_refused_in_one_line(tmp_path, change, says):
    path = tmp_path / "published.yaml"
    path.write_text(broken(change))
    with pytest.raises(UserError) as refusal:
        load_published(path)
    message = str(refusal.value)
    assert "\n" not in message
    for part in [str(path), *says]:
        assert part in message


def test_malformed_yaml_names_the_line(tmp_path):
    path = tmp_path / "published.yaml"
    path.write_text("schema_version: 1\npapers: [\n")
    with pytest.raises(UserError, match=r"published\.yaml:3: not valid YAML"):
        load_published(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.yaml"):
        load_published(tmp_path / "nowhere.yaml")
