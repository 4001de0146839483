"""The audit of meta-gradient estimators: exact expectations of the learners, statistics, resuming, bad files."""

import itertools
import json
import math
from pathlib import Path

import pytest
import torch
import yaml

from algorithms import ALGORITHMS
from algorithms.samples import condense
from harness import cli
from harness.api import MetaBatch, State, Trajectories
from harness.audit import Experiment
from harness.audit_command import COLUMNS, evidence_folder, run_audit
from harness.audit_file import Audit, Cell
from harness.audit_statistics import statistics_of
from harness.audit_truth import Layout, along, ascent
from harness.errors import UserError
from harness.files import sha256
from suites.tabular_mdp import TabularMDPSettings
from suites.tabular_mdp.simulation import TabularMDP
from tests.conftest import double

HORIZON, RATE = 2, 0.8
PLAIN = {
    "actor_hidden_sizes": [], "discount": 1.0, "gae_lambda": 1.0, "standardise_advantages": False, "baseline": "none",
    "outer_optimiser": "sgd", "outer_lr": 1.0, "credit": "none", "inner_lr": RATE,
}  # fmt: skip


def learner_of(suite, **choices):
    declaration = ALGORITHMS["policy_search_vpg"]
    return declaration.load()(declaration.settings.model_validate(PLAIN | choices), suite)


def in_float64(samples):
    """Samples with their numbers in float64; row numbers and what is not there stay."""
    fields = samples._asdict().items()
    return samples._replace(**{name: t.double() for name, t in fields if t is not None and t.is_floating_point()})


def joined(samples):
    """Samples of one task each as those of many tasks, in float64."""
    present = [name for name, tensor in samples[0]._asdict().items() if tensor is not None]
    return in_float64(samples[0]._replace(**{n: torch.cat([getattr(one, n) for one in samples]) for n in present}))


class Enumerated:
    """One MDP of two states, two actions and two steps, and all of its eight trajectories."""

    def __init__(self) -> None:
        self.suite = TabularMDP(TabularMDPSettings(states=2, actions=2, horizon=HORIZON))
        rng = torch.Generator().manual_seed(3)
        self.tasks = self.suite.sample_tasks(1, rng)
        self.dice = learner_of(self.suite, inner_surrogate="dice")
        self.params = double(self.dice.init(rng).params)
        self.layout = Layout(self.params)
        self.exact = self.suite.exact(self.tasks, self.log_policy)
        moves = list(itertools.product(range(2), range(2), range(2)))  # first action, second state, second action
        self.states = torch.tensor([[0, state] for _, state, _ in moves])
        self.actions = torch.tensor([[first, second] for first, _, second in moves])

    def log_policy(self, params):
        rows = torch.arange(2).view(1, -1, 1).expand(len(params), -1, 1)
        return self.dice.policy.distribution(self.layout.tree(params), rows)[0]

    def flat(self):
        return self.layout.flat({name: tensor.unsqueeze(0) for name, tensor in self.params.items()})

    def chances(self, params):
        """Probability of every trajectory, [tasks, 8]; params [tasks, D]; differentiable."""
        policy = self.log_policy(params).exp()
        moved = self.exact.transition[0][0, self.actions[:, 0], self.states[:, 1]]
        return policy[:, 0, self.actions[:, 0]] * moved * policy[:, self.states[:, 1], self.actions[:, 1]]

    def trajectories(self, tasks, kept=slice(None)):
        """The trajectories of every task with their mean rewards, [tasks, 8, 2]."""
        states, actions = self.states[kept].expand(tasks, -1, -1), self.actions[kept].expand(tasks, -1, -1)
        return Trajectories(
            states.unsqueeze(-1),
            actions.unsqueeze(-1),
            self.exact.reward[0][states, actions],
            torch.ones_like(states, dtype=torch.bool),
            states[:, :, -1:],
        )

    def weighted(self, learner, params, weights):
        """All trajectories as samples that count as much as they are likely, weights [tasks, 8]."""
        samples = learner.prepare(self.layout.tree(params), self.trajectories(len(params)), {}, False)[0]
        return in_float64(samples)._replace(weights=weights.repeat_interleave(HORIZON, dim=1))

    def expected_hessian(self, learner, samples):
        """What the learner's inner curvature is in expectation, for J̄ = J / horizon, from its own adaptation."""
        basis = torch.eye(self.flat().shape[1], dtype=torch.float64)
        pulled = [learner.pull_back(self.params, (samples,), self.layout.tree(unit)) for unit in basis]
        return (torch.cat([self.layout.flat(one) for one in pulled]) - basis) / RATE


@pytest.fixture(scope="module")
def enumerated():
    return Enumerated()


def close(found, expected, tolerance=1e-8):
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("surrogate", ["score_function", "lvc", "likelihood_ratio", "dice"])
def test_the_expected_hessian_of_every_inner_surrogate_is_exactly_what_it_is_said_to_be(enumerated, surrogate):
    case, learner = enumerated, learner_of(enumerated.suite, inner_surrogate=surrogate)
    flat = case.flat()
    terms = case.exact.curvature(flat)
    expected = {
        "score_function": terms.h2,
        "lvc": terms.h1 + terms.h2,
        "likelihood_ratio": terms.h1 + terms.h2,
        "dice": terms.hessian(),
    }[surrogate]
    samples = case.weighted(case.dice, flat, case.chances(flat).detach())
    if surrogate == "likelihood_ratio":
        samples = samples._replace(old_log_prob=case.dice.log_prob(case.layout.tree(flat), samples))
    close(case.expected_hessian(learner, samples), expected[0] / HORIZON)
    # All have one first derivative, the exact one.
    adapted = case.layout.flat(learner.adapt(case.params, samples))
    close(adapted, case.exact.adapted(flat, RATE / HORIZON))
    if surrogate in ("score_function", "lvc"):  # as the learner has them: equal steps put together
        counted = samples._replace(weights=samples.weights * 1e6, old_log_prob=None)
        close(case.expected_hessian(learner, condense(counted, 2, 2)), expected[0] / HORIZON)
    assert float(terms.cross().abs().max()) > 0.01


@pytest.mark.parametrize("surrogate", ["lvc", "dice"])
def test_a_baseline_of_the_state_moves_no_expected_hessian_but_that_of_the_score_function(enumerated, surrogate):
    case, flat = enumerated, enumerated.flat()
    raw = case.weighted(case.dice, flat, case.chances(flat).detach())
    baseline = torch.tensor([0.7, -1.3], dtype=torch.float64)[raw.observations.squeeze(-1)]
    below = raw._replace(advantages=raw.advantages - baseline)
    learner, primitive = (learner_of(case.suite, inner_surrogate=name) for name in (surrogate, "score_function"))
    close(case.expected_hessian(learner, below), case.expected_hessian(learner, raw))
    moved = case.expected_hessian(primitive, below) - case.expected_hessian(primitive, raw)
    assert float(moved.abs().max()) > 0.1


def test_with_the_exact_hessian_in_it_the_whole_meta_gradient_is_exact(enumerated):
    """DiCE on all pre-update trajectories, then the outer gradient on all post-update trajectories."""
    case, flat = enumerated, enumerated.flat()
    before = case.weighted(case.dice, flat, case.chances(flat).detach())
    adapted = case.dice.adapt(case.params, before)
    after_flat = case.layout.flat(adapted)
    after = case.weighted(case.dice, after_flat, case.chances(after_flat).detach())
    state = State(case.params, case.dice.init(torch.Generator()).optimiser)
    data = MetaBatch((before,), adapted, after)
    found = case.layout.flat(case.dice.meta_gradients(state, data))
    close(-found, case.exact.meta_gradient(flat, RATE / HORIZON) / HORIZON)
    first = case.layout.flat(case.dice.meta_gradients(state, data, through_adaptation=False))
    close(-first, case.exact.gradient(after_flat) / HORIZON)
    outer = case.layout.tree(case.exact.gradient(after_flat)[0] / HORIZON)
    close(case.layout.flat(case.dice.pull_back(case.params, (before,), outer)), -found)


def formulation_two(case, flat):
    """J̄_II(θ) of one pre-update episode, Σ_τ P_θ(τ) J̄(θ'(τ)), differentiable in θ; and P_θ(τ) [8], θ'(τ) [8, D]."""
    returns = case.exact.reward[0][case.states, case.actions]
    to_go = returns.flip(1).cumsum(1).flip(1)
    log_prob = case.log_policy(flat)[0][case.states, case.actions]
    rows = [
        torch.autograd.grad((log_prob[n] * to_go[n]).mean(), flat, create_graph=True)[0] for n in range(len(returns))
    ]
    adapted = flat + RATE * torch.cat(rows)
    mean_return = (case.chances(adapted) * returns.sum(1)).sum(1) / HORIZON
    chances = case.chances(flat)[0]
    return (chances * mean_return).sum(), chances.detach(), adapted.detach()


@pytest.mark.parametrize(("credit", "exact"), [("derived", True), ("paper", False), ("none", False)])
def test_the_derived_credit_has_exactly_the_gradient_of_formulation_two(enumerated, credit, exact):
    case = enumerated
    learner = learner_of(case.suite, inner_surrogate="score_function", credit=credit)
    flat = case.flat().requires_grad_()
    value, chances, adapted = formulation_two(case, flat)
    truth = torch.autograd.grad(value, flat)[0][0]
    # One task per pre-update episode; after it, all post-update episodes, weighted with how likely they are.
    each = [case.dice.prepare(case.params, case.trajectories(1, slice(n, n + 1)), {}, False)[0] for n in range(8)]
    before = joined(each)
    after = case.weighted(case.dice, adapted, case.chances(adapted))
    found_adapted = learner.adapt(case.params, before)
    close(case.layout.flat(found_adapted), adapted)
    state = State(case.params, learner.init(torch.Generator()).optimiser)
    by_task = learner.meta_gradients(state, MetaBatch((before,), found_adapted, after))
    found = -(chances.unsqueeze(1) * case.layout.flat(by_task)).sum(0)
    difference = float((found - truth).abs().max())
    assert difference < 1e-8 if exact else difference > 0.01


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


OURS = yaml.safe_load(cli.AUDIT.read_text())
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
        return path, Audit(path, scale, cli.REGISTRIES)

    return of


def test_the_projects_audit_is_well_formed_at_every_scale():
    sizes = {scale: len(Audit(cli.AUDIT, scale, cli.REGISTRIES).cells()) for scale in OURS["scales"]}
    assert sizes == {"paper": 4 * 10 * 2 * 2 * 7, "smoke": 4 * 2 * 2}


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


def measured(path, results, **options):
    assert (
        run_audit(path, options.pop("scale", "paper"), cli.REGISTRIES, results, options.pop("evidence", None), "x") == 0
    )
    return (results / "estimators" / "estimators.csv").read_bytes()


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
