"""The audit of meta-gradient estimators: its statistics, its stages, resuming, bad files."""

import json
import math
from pathlib import Path

import pytest
import torch
import yaml

from harness import cli, composition
from harness.audit import Experiment
from harness.audit_command import COLUMNS, evidence_folder, run_audit
from harness.audit_file import Audit, Cell
from harness.audit_statistics import statistics_of
from harness.audit_truth import along, ascent
from harness.errors import UserError
from harness.files import sha256


def cloud(count, mean, scales, seed=0):
    """Independent normal vectors."""
    noise = torch.randn(count, len(mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.tensor(mean, dtype=torch.float64) + noise * torch.tensor(scales, dtype=torch.float64)


def test_statistics_by_hand():
    truth = torch.tensor([3.0, 4.0], dtype=torch.float64)
    estimates = torch.tensor([[4.0, 4.0], [8.0, 4.0], [4.0, 8.0], [8.0, 8.0]], dtype=torch.float64)
    found = statistics_of(estimates, truth)
    # Mean (6, 6), each coordinate's variance 16/3, covariance 0; error of the mean (3, 2).
    assert found["truth_norm"] == pytest.approx(5.0)
    assert found["bias_squared"] == pytest.approx((13.0 - 32 / 3 / 4) / 25)
    assert found["bias"] == pytest.approx(math.sqrt((13.0 - 32 / 3 / 4) / 25))
    assert found["sd"] == pytest.approx(math.sqrt(32 / 3) / 5)
    assert found["mse"] == pytest.approx((1 + 25 + 17 + 41) / 4 / 25)
    assert found["cosine_of_mean"] == pytest.approx(42 / 5 / math.sqrt(72))
    cosines = [28 / 5 / math.sqrt(32), 40 / 5 / math.sqrt(80), 44 / 5 / math.sqrt(80), 56 / 5 / math.sqrt(128)]
    assert found["cosine"] == pytest.approx(sum(cosines) / 4)
    assert found["relative_sd_coordinates"] == pytest.approx(math.sqrt(16 / 3) / 6)


@pytest.mark.parametrize(("bias", "least", "most"), [(0.0, 1.0, 1.45), (0.3, 1.0, 1.2), (1.5, 0.94, 1.06)])
def test_the_squared_bias_is_unbiased_and_its_standard_error_is_right_or_large(bias, least, most):
    mean, scales, truth = [1.0 + bias, 1.0, 0.0, 2.0], [1.0, 0.5, 2.0, 0.1], [1.0, 1.0, 0.0, 2.0]
    target, repeats = torch.tensor(truth, dtype=torch.float64), 1500
    found = [statistics_of(cloud(60, mean, scales, seed), target) for seed in range(repeats)]
    values = torch.tensor([one["bias_squared"] for one in found])
    errors = torch.tensor([one["bias_squared_se"] for one in found])
    assert abs(float(values.mean()) - bias**2 / 6.0) < 4.0 * float(values.std()) / math.sqrt(repeats)
    assert least < float(errors.square().mean().sqrt() / values.std()) < most


def test_estimates_without_spread_have_their_bias_exactly():
    truth = torch.tensor([3.0, 4.0], dtype=torch.float64)
    found = statistics_of(torch.tensor([0.0, 4.0], dtype=torch.float64).expand(5, 2), truth)
    assert (found["bias"], found["bias_squared_se"], found["sd"]) == (pytest.approx(0.6), 0.0, 0.0)
    assert found["mse"] == pytest.approx(0.36)


def test_an_ascent_ends_at_the_summit_and_stages_lie_on_its_way():
    summit = torch.tensor([[1.0, -2.0], [0.5, 0.0]], dtype=torch.float64)
    weight = torch.tensor([1.0, 30.0], dtype=torch.float64)

    def hill(params):
        return -(weight * (params - summit).square()).sum(-1)

    path = ascent(hill, torch.zeros(2, 2, dtype=torch.float64))
    torch.testing.assert_close(path.params[-1], summit, rtol=0, atol=1e-4)
    assert bool((path.values.diff(dim=0) >= 0.0).all())
    assert torch.equal(along(hill, path, 0.0), path.params[0])
    height = (hill(along(hill, path, 0.5)) - path.values[0]) / (path.values[-1] - path.values[0])
    torch.testing.assert_close(height, torch.full((2,), 0.5, dtype=torch.float64), rtol=0, atol=1e-9)


OURS = yaml.safe_load(composition.AUDIT.read_text())
TINY = OURS | {
    "settings": {"states": 3, "actions": 2, "horizon": 3},
    "stages": {"initial": {"progress": 0.0}, "middle": {"progress": 0.5}},
    "mdps": 2,
    "inner_lrs": [2.0],
    "baselines": ["none"],
    "episodes": {5: 6, 20: 400},
    "scales": {"paper": {}, "smoke": {"episodes": {20: None}}},
}


@pytest.fixture
def audit_of(tmp_path):
    """``audit_of(**changes)``: a small audit's file and itself at paper scale."""

    def of(scale="paper", **changes):
        path = tmp_path / "audit.yaml"
        path.write_text(yaml.safe_dump(TINY | changes, sort_keys=False))
        return path, Audit(path, scale, composition.REGISTRIES)

    return of


def test_the_projects_audit_is_well_formed_at_every_scale():
    sizes = {scale: len(Audit(composition.AUDIT, scale, composition.REGISTRIES).cells()) for scale in OURS["scales"]}
    assert sizes == {"paper": 4 * 10 * 2 * 2 * 5, "smoke": 4 * 2 * 2}


def test_dice_has_no_bias_in_the_curvature_and_lvc_has_that_of_the_missing_terms(audit_of):
    experiment = Experiment(audit_of()[1])
    for mdp in range(2):
        rows = experiment.measure(Cell("initial", mdp, 2.0, "none", 20, 400))
        found = {row["estimator"]: row for row in rows if row["quantity"] == "curvature"}
        gap = {
            name: (row["bias_squared"], row["h12_share"] ** 2, row["bias_squared_se"]) for name, row in found.items()
        }
        assert abs(gap["dice"][0]) < 4.0 * gap["dice"][2]
        assert abs(gap["lvc"][0] - gap["lvc"][1]) < 4.0 * gap["lvc"][2]
        assert gap["lvc"][0] > 4.0 * gap["lvc"][2]  # the test for a bias finds one
        assert found["lvc"]["sd"] < found["dice"]["sd"]


def test_estimators_that_may_share_samples_do_not_change_by_it_and_the_likelihood_ratio_is_lvc(audit_of):
    cell = Cell("middle", 1, 2.0, "none", 5, 6)
    shared = Experiment(audit_of()[1]).estimates(cell)
    own = {name: {**entry, "samples_of": None} for name, entry in TINY["estimators"].items()}
    own["likelihood_ratio"] = {"hyperparameters": {"inner_surrogate": "likelihood_ratio"}, "samples_of": None}
    alone = Experiment(audit_of(estimators=own)[1]).estimates(cell)
    assert all(torch.equal(shared[key], alone[key]) for key in shared)
    for quantity in ("curvature", "meta_gradient"):
        torch.testing.assert_close(alone[quantity, "likelihood_ratio"], alone[quantity, "lvc"], rtol=1e-4, atol=1e-5)


def test_a_baseline_of_states_leaves_the_score_function_without_a_hessian(audit_of):
    found = Experiment(audit_of(baselines=["linear_features"])[1]).estimates(
        Cell("initial", 0, 2.0, "linear_features", 20, 6)
    )
    for quantity in ("curvature", "meta_gradient"):
        first, score = found[quantity, "first_order"], found[quantity, "score_function"]
        torch.testing.assert_close(score, first, rtol=0, atol=1e-3 * float(first.norm(dim=1).max()))
        assert float((found[quantity, "lvc"] - first).norm(dim=1).min()) > 0.01 * float(first.norm(dim=1).max())


def measured(path, results, scale="paper", evidence=None):
    return run_audit(path, scale, composition.REGISTRIES, results, evidence, "x").table.read_bytes()


def test_an_audit_goes_on_where_it_was_interrupted_with_the_same_bytes(audit_of, tmp_path, monkeypatch, capsys):
    path, audit = audit_of(episodes={5: 6})
    whole = measured(path, tmp_path / "one")
    cells = sorted((tmp_path / "one" / "estimators" / "cells").iterdir())
    assert len(cells) == len(audit.cells()) == 4
    cells[1].unlink()
    torch.manual_seed(7)  # global generators have no say
    counted = []
    measure = Experiment.measure
    monkeypatch.setattr(Experiment, "measure", lambda self, cell: counted.append(cell) or measure(self, cell))
    assert measured(path, tmp_path / "one") == whole
    assert len(counted) == 1
    assert measured(path, tmp_path / "one") == whole
    assert len(counted) == 1
    assert f"table: {tmp_path / 'one' / 'estimators' / 'estimators.csv'}" in capsys.readouterr().out


def test_the_table_is_sorted_and_its_evidence_knows_where_it_comes_from(audit_of, tmp_path):
    text = measured(audit_of(episodes={5: 6})[0], tmp_path / "results", evidence=tmp_path / "evidence").decode()
    header, *lines = text.splitlines()
    assert header == ",".join(COLUMNS)
    assert len(lines) == 4 * (7 + 4)
    assert lines == sorted(lines)
    assert (tmp_path / "evidence" / "estimators.csv").read_text() == text
    known = json.loads((tmp_path / "evidence" / "estimators.provenance.json").read_text())
    assert known["sha256"] == sha256(text.encode())
    assert (known["cells"], known["threads"], known["scale"]) == (4, [1], "paper")
    assert {"code_version", "dirty", "packages", "suite_version", "algorithm_version"} <= known.keys()


def test_what_decides_the_numbers_decides_the_key(audit_of):
    def key(**changes):
        audit = audit_of(**changes)[1]
        return audit.key(audit.cells()[0])

    stages = {"initial": {"progress": 0.1}, "middle": {"progress": 0.5}}
    one = key()
    assert one == key(title="Another title")
    changed = [key(seed=1), key(mdps=3), key(settings=TINY["settings"] | {"horizon": 4}), key(stages=stages)]
    assert len({one, *changed}) == 5


def test_only_paper_scale_goes_to_the_committed_evidence(tmp_path):
    assert evidence_folder(None, "smoke", tmp_path) is None
    assert evidence_folder("", "paper", tmp_path) == tmp_path
    assert evidence_folder("elsewhere", "smoke", tmp_path) == Path("elsewhere")
    with pytest.raises(UserError, match="--export FOLDER"):
        evidence_folder("", "smoke", tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mdp": 3}, r"unknown key 'mdp'; did you mean 'mdps'\?"),
        ({"mdps": 0}, "mdps: input should be greater than"),
        ({"suite": "navigation"}, "suite 'navigation' has none"),
        ({"suite": "tabular_mdps"}, "unknown suite 'tabular_mdps'; did you mean 'tabular_mdp'"),
        ({"settings": {"states": 0}}, "states: input should be greater than"),
        ({"stages": {"initial": {"progress": 1.5}}}, "stages.initial.progress: input should be less than 1"),
        ({"episodes": {5: 3}}, "greater than or equal to 4"),
        ({"baselines": ["linear"]}, "baseline: input should be"),
        ({"hyperparameters": TINY["hyperparameters"] | {"discount": 0.9}}, "discount must be 1.0"),
        ({"hyperparameters": TINY["hyperparameters"] | {"inner_lr": 1.0}}, "inner_lr is varied by inner_lrs"),
        ({"estimators": {"lvc": {"hyperparameters": {"inner_surrogate": "lcv"}}}}, "inner_surrogate: input should be"),
        ({"estimators": {"lvc": {"samples_of": "dice"}}}, "no estimator with samples of its own"),
        ({"scales": {"smoke": {}}}, "unknown scale 'paper'"),
    ],
)
def test_a_bad_file_is_refused_in_one_line_that_names_the_place(audit_of, changes, message):
    with pytest.raises(UserError, match=message) as caught:
        audit_of(**changes)
    text = str(caught.value)
    assert "\n" not in text
    assert text.split(":")[1].isdecimal()


def test_an_error_points_at_the_line_of_the_key(audit_of):
    with pytest.raises(UserError) as caught:
        audit_of(estimators={"lvc": {"hyperparameters": {"inner_surrogate": "lcv"}}})
    path, line = str(caught.value).split(":")[:2]
    assert "lcv" in Path(path).read_text().splitlines()[int(line) - 1]


def test_the_command_refuses_an_unknown_scale_in_one_line(capsys, tmp_path):
    assert cli.main(["estimators", "--scale", "papr", "--results", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "estimators.yaml:" in error
    assert "unknown scale 'papr'; did you mean 'paper'?" in error
