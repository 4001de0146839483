"""The navigation suite's published.yaml: its numbers, its audit, and what the loader refuses."""

from pathlib import Path

import pytest
import yaml

from harness.errors import UserError
from reports.comparisons import printed_tests
from reports.markup import p_value
from reports.published import load_published

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


def broken(change) -> str:
    data = yaml.safe_load(PUBLISHED.read_text())
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


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (drop_mean, ["[ulm2022_maml_replication].tables[3.3].rows[5].mean", "missing"]),
        (drop_n, ["tables[3.3].rows[5]", "interval without n"]),
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
    with pytest.raises(UserError, match="line 3"):
        load_published(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.yaml"):
        load_published(tmp_path / "nowhere.yaml")
