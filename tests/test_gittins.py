"""Gittins indices: known values, an independent formulation, what must hold of every table, and the cache."""

import numpy as np
import pytest
import torch

import suites.bandits.gittins as module
from suites.bandits.gittins import cache_folder, gittins_indices, gittins_table

PULLS = {0.5: 50, 0.6: 50, 0.7: 60, 0.8: 80, 0.9: 100, 0.95: 150, 0.99: 300}
"""Enough for γ^M or what is still to be learned after M pulls to vanish."""


@pytest.fixture(scope="module")
def table():
    """``table(discount)`` with the number of pulls above, computed once."""
    known = {}

    def of(discount):
        if discount not in known:
            known[discount] = gittins_indices(discount, PULLS[discount], 1001)
        return known[discount]

    return of


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder, and the calls that compute a table."""
    monkeypatch.setenv("METAREPRO_CACHE", str(tmp_path))
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return gittins_indices(*arguments)

    monkeypatch.setattr(module, "gittins_indices", counted)
    return tmp_path, calls


def files(folder):
    return sorted(path.name for path in folder.glob("gittins_*.safetensors"))


def same(one, other):
    return torch.equal(one.isnan(), other.isnan()) and torch.equal(one.nan_to_num(), other.nan_to_num())


@pytest.mark.parametrize(
    ("discount", "index"),
    [(0.5, 0.5590), (0.6, 0.5788), (0.7, 0.6046), (0.8, 0.6413), (0.9, 0.7029), (0.95, 0.7614), (0.99, 0.8699)],
)
def test_an_untouched_arm_has_its_known_index(table, discount, index):
    assert float(table(discount)[0, 0]) == pytest.approx(index, abs=1e-4)


def restart_index(discount, pulls, successes, failures):
    """(1 - γ) times the value of the arm where one may at any time start again from the state (s, f).

    The restart formulation (Katehakis & Veinott 1987), by value iteration; after ``pulls`` pulls learning is over.
    """
    s, f = np.meshgrid(np.arange(pulls + 1), np.arange(pulls + 1), indexing="ij")
    mean, over = (s + 1) / (s + f + 2), s + f >= pulls
    values = np.zeros(mean.shape)
    for _ in range(int(np.log(1e-10) / np.log(discount))):
        after = np.pad(values, ((0, 1), (0, 1)))
        go_on = mean * (1 + discount * after[1:, :-1]) + (1 - mean) * discount * after[:-1, 1:]
        go_on[over] = mean[over] / (1 - discount)
        values = np.maximum(go_on, go_on[successes, failures])
    return (1 - discount) * values[successes, failures]


@pytest.mark.parametrize("state", [(0, 0), (1, 0), (0, 1), (3, 2)])
@pytest.mark.parametrize("discount", [0.6, 0.7, 0.8, 0.9])
def test_calibration_and_restart_give_the_same_index(table, discount, state):
    assert float(table(discount)[state]) == pytest.approx(restart_index(discount, PULLS[discount], *state), abs=2e-6)


@pytest.mark.parametrize("discount", [0.1, 0.5, 0.9])
def test_where_learning_ends_after_one_pull_the_index_has_a_closed_form(discount):
    # λ = (1-γ)/2 + γ (max(λ, 2/3) + max(λ, 1/3)) / 2 at 1/3 ≤ λ ≤ 2/3.
    (index,) = gittins_indices(discount, 1, 1001)
    assert float(index) == pytest.approx((3 - discount) / (3 * (2 - discount)), abs=1e-9)


@pytest.mark.parametrize("discount", [0.5, 0.9, 0.99])
def test_the_index_rises_with_successes_falls_with_failures_and_is_no_less_than_the_mean(table, discount):
    index = table(discount)
    assert bool((index[1:, :-1] > index[:-1, :-1])[~index[1:, :-1].isnan()].all())
    assert bool((index[:-1, 1:] < index[:-1, :-1])[~index[:-1, 1:].isnan()].all())
    s, f = torch.meshgrid(*[torch.arange(len(index), dtype=torch.float64)] * 2, indexing="ij")
    known = s + f < len(index)
    assert torch.equal(known, ~index.isnan())
    above_the_mean = (index - (s + 1) / (s + f + 2))[known]
    assert float(above_the_mean.min()) > -1e-9
    assert float(index[known].max()) < 1.0
    # An arm on its last pull before learning ends is worth a little more than its mean, an untouched one much more.
    assert float(above_the_mean.max()) == float(above_the_mean[0])


def test_what_lies_further_ahead_counts_more_with_a_larger_discount(table):
    indices = [float(table(discount)[0, 0]) for discount in PULLS]
    assert indices == sorted(indices)
    assert indices[0] > 0.5


def test_more_pulls_only_add_to_an_index():
    short, long = (gittins_indices(0.9, pulls, 1001)[0, 0] for pulls in (20, 40))
    assert 0 < float(long - short) < 0.9**20


def test_a_grid_of_1001_is_as_good_as_one_of_5001_for_arms_that_are_little_known(table):
    index, fine = table(0.9), gittins_indices(0.9, PULLS[0.9], 5001)
    difference = (index - fine).abs().nan_to_num()
    # Where an arm is well known, its index and its mean lie between the same two grid values.
    assert float(difference.max()) < 1e-3
    pulls = torch.arange(PULLS[0.9]).unsqueeze(1) + torch.arange(PULLS[0.9])
    assert float(difference[pulls < 10].max()) < 1e-5
    coarse = gittins_indices(0.9, PULLS[0.9], 11)
    assert float((coarse - fine).abs()[pulls < 10].max()) > 1e-3


def test_a_table_is_computed_once_and_read_back_equal(cache):
    folder, calls = cache
    first = gittins_table(0.9, 20, 101)
    (name,) = files(folder)
    written = (folder / name).read_bytes()
    again = gittins_table(0.9, 20, 101)
    assert calls == [(0.9, 20, 101)]
    assert again.dtype == torch.float64
    assert same(again, first)
    assert same(first, gittins_indices(0.9, 20, 101))
    assert files(folder) == [name]
    assert (folder / name).read_bytes() == written


@pytest.mark.parametrize("other", [(0.91, 20, 101), (0.9, 21, 101), (0.9, 20, 102)])
def test_other_parameters_have_a_file_of_their_own(cache, other):
    folder, calls = cache
    tables = [gittins_table(0.9, 20, 101), gittins_table(*other), gittins_table(0.9, 20, 101)]
    assert calls == [(0.9, 20, 101), other]
    assert len(files(folder)) == 2
    assert same(tables[0], tables[2])
    assert not torch.equal(tables[1][0, 0], tables[0][0, 0])


def test_another_version_has_a_file_of_its_own(cache, monkeypatch):
    folder, calls = cache
    gittins_table(0.9, 20, 101)
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    gittins_table(0.9, 20, 101)
    assert len(calls) == len(files(folder)) == 2


def of_another_shape(content):
    from safetensors.torch import save

    return save({"index": torch.zeros(3, 3, dtype=torch.float64)})


def under_another_name(content):
    from safetensors.torch import save

    return save({"indices": torch.zeros(20, 20, dtype=torch.float64)})


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: b"\xff" * len(content),
        of_another_shape,
        under_another_name,
    ],
    ids=["empty", "last byte lost", "half", "rubbish", "another shape", "another name"],
)
def test_a_damaged_file_is_made_anew(cache, damage):
    folder, calls = cache
    first = gittins_table(0.9, 20, 101)
    (name,) = files(folder)
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(damage(whole))
    assert same(gittins_table(0.9, 20, 101), first)
    assert len(calls) == 2
    assert (folder / name).read_bytes() == whole


def test_the_cache_lies_where_the_environment_says(monkeypatch, tmp_path):
    for name in ("METAREPRO_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "metarepro"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "metarepro"
    monkeypatch.setenv("METAREPRO_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


@pytest.mark.parametrize(
    ("discount", "pulls", "grid"),
    [(0.0, 5, 11), (1.0, 5, 11), (1.5, 5, 11), (float("nan"), 5, 11), (0.9, 0, 11), (0.9, 5, 1)],
)
def test_what_has_no_index_is_refused_and_leaves_no_file(cache, discount, pulls, grid):
    with pytest.raises(ValueError, match=rf"discount in \(0, 1\).* found {discount}, {pulls} and {grid}$"):
        gittins_table(discount, pulls, grid)
    assert files(cache[0]) == []
