"""The page of a tuning: found beside printed, plateau or cliff, figures; on bowls whose answers are known."""

import csv
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.errors import UserError
from reports.papers.published_file import load_published
from reports.tuning import verdict
from reports.tuning.landscape import NEAR, landscape, place_of, printed_point, scale_of
from reports.tuning.page import build
from reports.tuning.printed import printed_of
from reports.tuning.summary import found, markdown, places, rates, reasons, searches
from reports.tuning.trials import StageInfo, read_trials

PROJECT = Path(__file__).parent.parent
PUBLISHED = PROJECT / "suites" / "navigation" / "published.yaml"
E = float(np.e)
SPACE = {
    "critic": {"low": E**-4, "high": E**4, "log": True},
    "ratio": {"low": 0.5, "high": 1.0, "log": False},
}
ASSIGN = {"critic_lr": ("critic",), "actor_lr": ("ratio", "critic")}
LOGS = np.arange(-3.0, 3.01, 0.1)
RATIOS = (0.55, 0.7, 0.9)
PROVENANCE = {
    "scale": "paper",
    "command": "metarepro tune <bowl>",
    "code_version": ["abc"],
    "packages": {"optuna": "5"},
}


def info(critic=1.0, ratio=0.7, **changes):
    """A stage whose printed point is at some critic's rate and ratio."""
    made = StageInfo(
        space=SPACE,
        assign=ASSIGN,
        description="the bowl",
        names={"critic_lr": "critic", "actor_lr": "actor"},
        printed={"critic_lr": critic, "actor_lr": ratio * critic},
    )
    return replace(made, **changes)


def bowl(log_critic, ratio):
    """Best at critic 1, whatever the ratio."""
    return -(log_critic**2)


def rows(stage="bowl", protocol="own", objective=bowl, logs=LOGS):
    """A grid of trials, 0.1 log units apart, at three ratios; the critic's rate is e^log."""
    points = [(log, ratio) for log in logs for ratio in RATIOS]
    return [
        {
            "tuning": "bowls", "scale": "paper", "protocol": protocol, "stage": stage, "method": "maml",
            "trial": number, "state": "complete", "value": objective(log, ratio), "critic": float(np.exp(log)),
            "ratio": ratio, "critic_lr": float(np.exp(log)), "actor_lr": ratio * float(np.exp(log)), "seeds": 1,
            "values": objective(log, ratio), "reason": "", "run_ids": f"r{number}", "cpu_s": 6.0,
        }
        for number, (log, ratio) in enumerate(points)
    ]  # fmt: skip


def write(path, made=None):
    made = rows() if made is None else made
    names = list(dict.fromkeys(name for row in made for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(made)
    return path


def read(path, made=None, **stages):
    stages = stages or {"bowl": info()}
    return read_trials(write(path / "bowls.csv", made), stages)


def only(path, made, **changes):
    """What is found in the only stage."""
    stages = {"bowl": info(**changes)}
    (one,) = found(read(path, made, **stages), stages)
    return one


def stairs(log_critic, ratio):
    """Three steps up: -20, -5, 0."""
    return -20.0 if log_critic < -1.05 else -5.0 if log_critic < 1.05 else 0.0


def test_the_estimate_of_a_plane_is_exact(tmp_path):
    trials = read(tmp_path, rows(objective=lambda log, ratio: 2.0 * log - 3.0 * np.log(ratio)))
    land = landscape(trials, ["critic", "ratio"])
    at = np.array([0.23, np.log(0.72)])
    assert land.estimate(at) == pytest.approx(2 * 0.23 - 3 * np.log(0.72), abs=0.01)
    assert land.roughness() == pytest.approx(0.0, abs=0.02)


def test_an_estimate_needs_eight_trials_within_a_factor_of_two(tmp_path):
    land = landscape(read(tmp_path), ["critic", "ratio"])
    edge = 3.0 + NEAR  # the last trials are at 3.0, three at every step of 0.1
    assert np.isfinite(land.estimate(np.array([edge - 0.21, np.log(0.7)])))  # nine near
    assert np.isnan(land.estimate(np.array([edge - 0.19, np.log(0.7)])))  # six near


def test_scale_by_hand(tmp_path):
    made = rows()
    made[1] |= {"value": -0.5}
    trials = read(tmp_path, made)
    scale = scale_of(trials, info(random_trials=6))  # at -3.0, 0.5 once, and at -2.9: median of -9 ×2, -8.41 ×3, -0.5
    assert scale.best == pytest.approx(0.0, abs=1e-12)
    assert (scale.median, scale.spread) == (pytest.approx(-8.41), pytest.approx(8.41))
    assert scale.tolerance == pytest.approx(0.05 * 8.41)
    assert scale_of(trials, info(random_trials=4)).median == pytest.approx(np.median([row["value"] for row in made]))


def test_the_printed_point_is_what_the_products_imply():
    assert printed_point(info(2.0, 0.7)) == {"critic": pytest.approx(2.0), "ratio": pytest.approx(0.7)}
    assert printed_point(info(printed={})) is None
    assert printed_point(info(printed={"actor_lr": 1.4})) is None  # one number for two parameters
    choice = {"critic": SPACE["critic"], "ratio": {"choices": [0.5, 1.0]}}
    assert printed_point(info(space=choice)) is None


def test_room_in_a_bowl_is_the_root_of_the_tolerance(tmp_path):
    # the random trials are the first nine, at -3.0 to -2.8: median -8.41, tolerance 0.4205, of which the root is 0.648
    trials = read(tmp_path)
    stage = info(random_trials=9)
    place = place_of(trials, stage, scale_of(trials, stage))
    assert place.estimate == pytest.approx(0.0, abs=0.01)
    assert (place.down, place.up) == (pytest.approx(0.648, abs=0.03), pytest.approx(0.648, abs=0.03))
    assert (place.down_open, place.up_open, place.fall_open) == (False, False, False)
    assert place.fall == pytest.approx(np.log(1.5) ** 2, abs=0.01)
    assert place.away == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("critic", "objective", "word"),
    [
        (1.0, bowl, verdict.PLATEAU),
        (1.0, lambda log, ratio: 8 * bowl(log, ratio) if abs(log) < 1 else -9.0, verdict.HILL),
        (E**-1.5, bowl, verdict.SLOPE),
        (E**1.3, lambda log, ratio: -20.0 if log < 1.05 else 0.0, verdict.CLIFF),
        (E**0.0, stairs, verdict.SHELF),
        (E**-0.9, stairs, verdict.LOW_CLIFF),
        (E**3.4, lambda log, ratio: min(log, 2.0), verdict.NO_END),
        (E**5.0, bowl, verdict.CANNOT_TELL),
    ],
)
def test_plateau_or_cliff(tmp_path, critic, objective, word):
    assert only(tmp_path, rows(objective=objective), critic=critic, random_trials=9).word == word


def test_sentences_have_the_numbers(tmp_path):
    one = only(tmp_path, rows(), random_trials=9)
    assert one.sentence.startswith("On a plateau: the estimate at the printed point, ")
    assert "within the tolerance of 0.42" in one.sentence
    assert "The best trial has 1.00 times the printed `critic`." in one.sentence
    far = only(tmp_path, rows(), critic=E**3.6).sentence
    assert "Cannot tell: 3 of the trials are near the printed point" in far
    assert "have −9.00, all of them more" in far
    assert "of the random draws were better than all of these" in far


def test_what_was_found_by_hand(tmp_path):
    made = rows()
    made[0] |= {"state": "pruned", "value": 5.0, "reason": "below the median after 1 of its seeds"}
    made[1] |= {"state": "fail", "value": "", "reason": "bowl t001: diverged: NaN"}
    made[90] |= {"value": 0.5, "seeds": 3, "values": "0.2 0.5 0.8"}  # at critic 1, ratio 0.55
    one = only(tmp_path, made, critic=2.0, printed_best=-1.5)
    (row,) = searches([one]).to_dict("records")
    assert (row["trials"], row["complete"], row["pruned"], row["fail"]) == (183, 181, 1, 1)
    assert (row["best_trial"], row["best_value"], row["printed_best"]) == (90, 0.5, -1.5)
    assert row["se_over_seeds"] == pytest.approx(0.3 / 3**0.5)
    assert row["cpu_minutes"] == pytest.approx(18.3)
    assert row["reasons"] == "1 × below the median after 1 of its seeds; 1 × NaN"
    critic, actor = rates([one]).to_dict("records")
    assert (critic["rate"], critic["found"], critic["found_over_printed"]) == ("critic", "1", pytest.approx(0.5))
    assert (actor["rate"], actor["found"], actor["printed"]) == ("actor", "0.55", pytest.approx(1.4))
    assert actor["found_over_printed"] == pytest.approx(0.55 / 1.4)
    shown = "critic 1 (2.0000), actor 0.55 (1.4000)"
    line = f"| `{one.protocol}`: {one.name} | {row['method']} | 183 | 0.50 (−1.50) | {shown} | {one.word} |"
    assert markdown([one]).splitlines()[2:] == [line]


def test_the_trials_within_the_tolerance_are_counted(tmp_path):
    one = only(tmp_path, rows(), random_trials=9)  # tolerance 0.42: |log| up to 0.6
    (row,) = searches([one]).to_dict("records")
    assert row["no_worse"] == 13 * len(RATIOS)
    low_high = rates([one]).iloc[0][["no_worse_low", "no_worse_high"]]
    assert tuple(low_high) == (pytest.approx(E**-0.6), pytest.approx(E**0.6))


def test_the_parameter_that_decides_has_the_importance(tmp_path):
    one = only(tmp_path, rows())
    assert set(one.importances) == {"critic", "ratio"}
    assert one.importances["critic"] > 0.9
    assert sum(one.importances.values()) == pytest.approx(1.0)


def test_the_page(tmp_path):
    stages = {"bowl": info(description="<b>α</b> in `code`", objective="return"), "later": info()}
    source = write(tmp_path / "bowls.csv")
    told = {"notes": ["a <i>note</i>"], "findings": ["`critic` decides"], "title": "Bowls & more"}
    pages = [build(source, PROVENANCE, tmp_path / name, stages=stages, **told) for name in ("first", "second")]
    text = pages[0].read_text()
    assert text == pages[1].read_text()
    files = sorted(path.name for path in pages[0].with_suffix("").iterdir())
    for name in files:
        assert (tmp_path / "first/bowls" / name).read_bytes() == (tmp_path / "second/bowls" / name).read_bytes()
    assert {"bowls.csv", "rates.csv", "searches.csv", "printed_point.csv", "importances.svg"} <= set(files)
    assert {"search_bowl.svg", "landscape_bowl.svg", "importances.csv"} <= set(files)
    assert "&lt;b&gt;α&lt;/b&gt; in <code>code</code>" in text
    assert "a &lt;i&gt;note&lt;/i&gt;" in text
    assert "metarepro tune &lt;bowl&gt;" in text
    assert "Bowls &amp; more" in text
    assert "<code>critic</code> decides" in text
    assert "No trials yet: <code>later</code>" in text
    assert "Smoke test" not in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(ids)
    assert set(re.findall(r'href="bowls/([^"]+)"', text)) <= set(files)
    assert not re.search(r'(?:src|href)="(?!#|data:|bowls/)', text)


def hostile(made):
    """A failure's reason and a choice, as records could have them."""
    made[3] |= {"state": "fail", "value": "", "reason": "x: <script>alert(1)</script>"}
    return [row | {"kind": "<img>" if row["trial"] % 2 else "b"} for row in made]


def test_a_choice_is_text_and_records_are_escaped(tmp_path):
    choice = {"choices": ("<img>", "b")}
    stage = info(space={**SPACE, "kind": choice}, assign={**ASSIGN, "kind": ("kind",)})
    page = build(write(tmp_path / "c.csv", hostile(rows())), {"scale": "smoke"}, tmp_path, stages={"bowl": stage})
    text = page.read_text()
    assert "<script>alert" not in text
    assert "<img>" not in text
    assert "1 × &lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "Smoke test, not a measurement" in text


def one_parameter(made):
    return [{name: value for name, value in row.items() if name not in ("ratio", "actor_lr")} for row in made]


@pytest.mark.parametrize(
    ("made", "stage", "says"),
    [
        (rows()[:1], info(), "Cannot tell: 0 of the trials"),
        ([row | {"state": "fail", "value": ""} for row in rows()[:4]], info(), "Cannot tell: no trial is complete."),
        ([row | {"state": "pruned"} for row in rows()[:4]], info(), "Cannot tell: no trial is complete."),
        (rows(objective=lambda log, ratio: -1.0), info(), "On a plateau"),
        (
            one_parameter(rows()),
            info(
                space={"critic": SPACE["critic"]},
                assign={"critic_lr": ("critic",)},
                printed={"critic_lr": 1.0},
                random_trials=9,
            ),
            "On a plateau",
        ),
        (
            [row | {"ratio": "a" if row["trial"] % 2 else "b", "actor_lr": "a"} for row in rows()],
            info(space={"ratio": {"choices": ("a", "b")}}, assign={"actor_lr": ("ratio",)}, printed={}),
            "no point is printed",
        ),
        (
            rows(),
            info(space={**SPACE, "ratio": {"low": -1.0, "high": 1.0, "log": False}}),
            "no point is printed",
        ),
    ],
    ids=["one trial", "all failed", "all pruned", "all equal", "one parameter", "a choice alone", "a range around 0"],
)  # fmt: skip
def test_a_degenerate_stage_has_a_page(tmp_path, made, stage, says):
    page = build(write(tmp_path / "small.csv", made), {"scale": "paper"}, tmp_path / "out", stages={"bowl": stage})
    text = page.read_text()
    assert says in text
    assert not re.search(r">\s*nan\b", text.lower())
    assert (page.with_suffix("") / "search_bowl.svg").is_file()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no trials at"),
        ("", "not a table of trials"),
        ("stage,value\nbowl,1\n", "lacks the columns protocol"),
        (lambda made: made[:0], "has no row"),
        (lambda made: [made[0] | {"stage": "other"}], "the tuning has no stage 'other'; it has bowl"),
        (lambda made: [made[0] | {"state": "lost"}], "unknown state 'lost'"),
        (lambda made: [made[0] | {"value": "much"}], "column value: expected numbers"),
        (lambda made: [made[0] | {"value": ""}], "a complete trial has no value"),
        (lambda made: [made[0] | {"trial": ""}], "expected whole numbers"),
        (one_parameter, "lacks the columns actor_lr, ratio"),
    ],
)
def test_what_is_not_a_table_of_trials_is_refused(tmp_path, content, says):
    path = tmp_path / "bowls.csv"
    if callable(content):
        kept = content(rows())
        write(path, rows()[:1])
        if kept:
            write(path, kept)
        else:
            path.write_text(path.read_text().splitlines()[0] + "\n")
    elif content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=says) as error:
        read_trials(path, {"bowl": info()})
    assert "\n" not in str(error.value)


def test_printed_values_come_from_the_suite():
    printed = printed_of(load_published(PUBLISHED), "A.1")
    assert printed.values("outer_lr", {"a": "actor", "c": "critic"}) == {"a": 0.0028, "c": 0.0039}
    assert [printed.best(f"{name}_lr", "appendix_a") for name in ("outer", "inner", "evaluation")] == [
        -53.86, -52.01, -12.48,
    ]  # fmt: skip
    assert printed.best("outer_lr", "disjoint") is None
    assert printed.notes[0].startswith("`inner_lr`, critic: the tuning log")
    with pytest.raises(UserError, match="prints no number outer_lr of scope both"):
        printed.values("outer_lr", {"a": "both"})
    with pytest.raises(UserError, match="no paper of the suite has a table of settings 'Z'"):
        printed_of(load_published(PUBLISHED), "Z")


def test_stages_stand_protocol_by_protocol(tmp_path):
    made = [row for name, protocol in (("a", "p"), ("b", "q"), ("c", "p")) for row in rows(name, protocol)[:5]]
    stages = {name: info() for name in "abc"}
    named = found(read(tmp_path, made, **stages), stages)
    assert [one.name for one in named] == ["a", "c", "b"]
    assert list(places(named)["answer"]) == [verdict.CANNOT_TELL] * 3


def test_reasons_are_counted(tmp_path):
    made = [row | {"state": "fail", "reason": f"x t{row['trial']}: failed: lost"} for row in rows()[:3]]
    made.append(rows()[3] | {"state": "fail"})
    assert reasons(read(tmp_path, made)) == "3 × lost; 1 × no reason recorded"


def test_the_page_is_made_without_torch():
    program = "import sys, reports.tuning.page, optuna\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
