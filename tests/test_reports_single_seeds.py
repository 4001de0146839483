"""What one seed alone would have concluded: counts and exact intervals, against numbers made by hand."""

from __future__ import annotations

import pandas as pd
import pytest
from scipy import stats

from reports.attachments import Attachments
from reports.exhibits import single_seeds
from reports.exhibits.source import Source
from reports.papers.exhibits import SingleSeedsExhibit
from reports.study_info import SettingInfo, StudyInfo

# Differences of `a` minus `b` at steps 1 and 2; both have an SD of 4 over 40 tasks: se = √(2 · 16 / 40) = 0.894, and
# t(.975, 39) = 2.0227, so that 1.809 is the smallest difference that is found.
DIFFERENCES = {0: (2.0, 2.0), 1: (1.82, 1.0), 2: (1.80, 0.0), 3: (-2.0, -2.0), 4: (0.5, -0.5)}


def evidence() -> pd.DataFrame:
    rows = []
    for seed, differences in DIFFERENCES.items():
        for step, difference in enumerate(differences, start=1):
            for method, value in (("a", -10.0 + difference), ("b", -10.0)):
                rows.append((method, seed, "ulm", step, value, 4.0, 40, "done"))
    rows.append(("a", 9, "ulm", 1, -1.0, 4.0, 40, "done"))  # a seed that b does not have
    rows.append(("b", 3, "ulm", 1, float("nan"), 4.0, 40, "diverged"))
    return pd.DataFrame(rows, columns=["method", "seed", "protocol", "step", "mean_return", "sd_over_tasks", "tasks", "status"])  # fmt: skip # noqa: E501


def exhibit(**changes) -> SingleSeedsExhibit:
    given = {"id": "alone", "kind": "single_seeds", "title": "t", "study": "s", "paper": "p"}
    given |= {"protocol": "ulm", "first": "a", "second": "b", "steps": [1, 2]}
    return SingleSeedsExhibit.model_validate(given | changes)


def test_each_seed_is_tested_by_itself():
    found = single_seeds.conclusions(evidence(), exhibit())
    assert found.index.tolist() == [0, 1, 2, 3, 4]
    assert found[1].tolist() == ["in favour", "in favour", "no difference", "against", "no difference"]
    assert found[2].tolist() == ["in favour", "no difference", "no difference", "against", "no difference"]


def test_shares_have_the_exact_interval_of_a_proportion():
    table = single_seeds.shares(single_seeds.conclusions(evidence(), exhibit())).set_index("when")
    first = table.loc["after 1 updates"]
    assert (first["in favour"], first["no difference"], first["against"]) == (2, 2, 1)
    # Clopper and Pearson: quantiles of beta distributions.
    assert first["in favour_low"] == pytest.approx(stats.beta.ppf(0.025, 2, 4))
    assert first["in favour_high"] == pytest.approx(stats.beta.ppf(0.975, 3, 3))
    every = table.loc["at every one of these steps"]
    assert (every["in favour"], every["no difference"], every["against"]) == (1, 2, 1)


def test_the_sentence_says_both_shares():
    table = single_seeds.shares(single_seeds.conclusions(evidence(), exhibit()))
    said = single_seeds.sentence(table, exhibit())
    assert said.startswith("Of 5 training seeds, taken alone, 1 (20 % [1, 72]) find a ahead of b after each of 1, 2")
    assert "2 (40 % [5, 85]) no difference after any of them" in said


def test_the_page_and_its_bytes():
    setting = SettingInfo("only")
    source = Source(None, evidence(), StudyInfo("s", "S", "paper", (setting,), (), (0,)), setting, {}, "alone")  # type: ignore[arg-type]
    kept = []
    for _ in range(2):
        files = Attachments()
        part = single_seeds.part(files, exhibit(), source)
        kept.append(files.contents)
        assert len(part.tables) == len(part.figures) == len(part.sentences) == 1
    assert kept[0] == kept[1]
    assert single_seeds.part(Attachments(), exhibit(second="c"), source).figures == []
