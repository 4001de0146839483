"""Checkpoints: bit-exact, whole or not there, damage noticed, nothing unpickled."""

from __future__ import annotations

import ast
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.checkpoint import KEPT, Groups, misfit_of_training, newest_checkpoint, save_checkpoint
from harness.errors import UserError
from harness.streams import Streams
from tests.harness_fixtures import PROJECT, flip


def _groups(offset: float = 0.0) -> Groups:
    rng = torch.Generator().manual_seed(1)
    return {
        "params": {
            "weight": torch.randn(3, 2, generator=rng) + offset,
            "transposed": torch.arange(6.0).reshape(2, 3).T,
            "shared": torch.zeros(1).expand(4),
            "name:with colon": torch.tensor([math.nan, math.inf, -0.0, 1e-45]),
        },
        "optimiser": {"count": torch.tensor(7, dtype=torch.int64), "moment": torch.full((2,), 1 / 3).double()},
        "slots": {},
        "streams": Streams(3).state(),
        "mixed": {
            "mask": torch.tensor([True, False]),
            "none": torch.zeros(0, 5),
            **{str(dtype): torch.arange(4).to(dtype) for dtype in (torch.uint8, torch.int32, torch.float16)},
        },
    }


def _equal(one: Groups, other: Groups) -> bool:
    def bits(tensor: Tensor) -> tuple[Any, ...]:
        return tensor.dtype, tuple(tensor.shape), tensor.contiguous().numpy().tobytes()

    return {group: {name: bits(tensor) for name, tensor in named.items()} for group, named in one.items()} == {
        group: {name: bits(tensor) for name, tensor in named.items()} for group, named in other.items()
    }


def _silent(message: str) -> None:
    raise AssertionError(message)


def _newest(folder: Path) -> tuple[Groups, dict[str, Any]]:
    found = newest_checkpoint(folder, _silent)
    assert found is not None
    return found


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_saved_comes_back_bit_for_bit(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 12, _groups(), {"environment_steps": 5, "seconds": {"outer": 0.1}})
    groups, info = _newest(tmp_path)
    assert _equal(groups, _groups())
    assert (info["iteration"], info["environment_steps"], info["seconds"]) == (12, 5, {"outer": 0.1})


def test_names_come_back_in_the_order_in_which_they_were(tmp_path: Path) -> None:
    """A sum over a dictionary in another order is another number."""
    groups = {"z": {"b": torch.ones(1), "a": torch.ones(1).double(), "c": torch.ones(9)}, "a": {}}
    save_checkpoint(tmp_path, 1, groups, {})
    found = _newest(tmp_path)[0]
    assert [(group, list(named)) for group, named in found.items()] == [("z", ["b", "a", "c"]), ("a", [])]


def test_generators_go_on_where_they_were(tmp_path: Path) -> None:
    streams = Streams(3)
    torch.randn(5, generator=streams["policy"])
    save_checkpoint(tmp_path, 1, {"streams": streams.state()}, {})
    expected = torch.randn(9, generator=streams["policy"])
    resumed = Streams(4)
    resumed.restore(_newest(tmp_path)[0]["streams"])
    assert torch.equal(torch.randn(9, generator=resumed["policy"]), expected)


def test_empty_groups_come_back_as_empty_groups(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 0, {"params": {}, "slots": {}}, {})
    assert _newest(tmp_path)[0] == {"params": {}, "slots": {}}


def test_equal_checkpoints_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_checkpoint(tmp_path / name, 3, _groups(), {"x": 1})
    assert _files(tmp_path / "a") == _files(tmp_path / "b")


def test_saving_neither_keeps_nor_changes_the_tensors(tmp_path: Path) -> None:
    weight = torch.ones(2, requires_grad=True)
    save_checkpoint(tmp_path, 1, {"params": {"weight": weight}}, {})
    with torch.no_grad():
        weight.mul_(3.0)
    assert _newest(tmp_path)[0]["params"]["weight"].tolist() == [1.0, 1.0]
    assert weight.requires_grad


def test_only_the_last_two_stay(tmp_path: Path) -> None:
    for iteration in (5, 10, 15, 100):
        save_checkpoint(tmp_path, iteration, _groups(), {})
    assert KEPT == 2
    assert sorted(_files(tmp_path)) == [
        "00000015.json", "00000015.safetensors", "00000100.json", "00000100.safetensors",
    ]  # fmt: skip


@pytest.mark.parametrize("call", ["replace", "fsync"])
@pytest.mark.parametrize("crash_at", [1, 2])
def test_a_crash_while_saving_leaves_the_old_checkpoint_and_no_litter(
    call: str, crash_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, 2, _groups(), {})
    before, real, calls = _files(tmp_path), getattr(os, call), 0

    def crash(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == crash_at:  # first the tensors are written, then the JSON
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(os, call, crash)
    with pytest.raises((OSError, UserError), match="No space left"):
        save_checkpoint(tmp_path, 4, _groups(1.0), {})
    monkeypatch.undo()
    after = _files(tmp_path)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == ({"00000004.safetensors"} if crash_at == 2 else set())
    warnings: list[str] = []
    found = newest_checkpoint(tmp_path, warnings.append)
    assert found is not None
    assert found[1]["iteration"] == 2
    assert len(warnings) == crash_at - 1
    save_checkpoint(tmp_path, 4, _groups(1.0), {})
    assert _newest(tmp_path)[1]["iteration"] == 4


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def _rewrite(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


DAMAGE: dict[str, tuple[str, Callable[[Path], None]]] = {
    "first byte of the tensors": (".safetensors", lambda path: flip(path, 0)),
    "header of the tensors": (".safetensors", lambda path: flip(path, 20)),
    "last byte of the tensors": (".safetensors", lambda path: flip(path, -1)),
    "tensors cut short": (".safetensors", _truncate),
    "tensors empty": (".safetensors", _rewrite(b"")),
    "JSON cut short": (".json", _truncate),
    "JSON empty": (".json", _rewrite(b"")),
    "JSON of something else": (".json", _rewrite(b"[1, 2]")),
    "JSON without checksum": (".json", _rewrite(b'{"info": {"iteration": 9, "groups": []}}')),
    "JSON not text": (".json", _rewrite(b"\xff\xfe\x00")),
    "JSON missing": (".json", Path.unlink),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_noticed_told_once_and_the_previous_one_is_used(damage: str, tmp_path: Path) -> None:
    ending, spoil = DAMAGE[damage]
    for iteration in (2, 4):
        save_checkpoint(tmp_path, iteration, _groups(float(iteration)), {})
    spoil(tmp_path / f"00000004{ending}")
    warnings: list[str] = []
    found = newest_checkpoint(tmp_path, warnings.append)
    assert found is not None
    assert found[1]["iteration"] == 2
    assert _equal(found[0], _groups(2.0))
    assert len(warnings) == 1
    assert "00000004" in warnings[0]
    assert "\n" not in warnings[0]


def test_no_single_byte_of_the_json_can_change_unnoticed(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 4, {"params": {"w": torch.ones(2)}}, {"environment_steps": 16})
    path, expected = tmp_path / "00000004.json", _newest(tmp_path)[1]
    content = path.read_bytes()
    for position in range(len(content)):
        flip(path, position)
        found = newest_checkpoint(tmp_path, lambda message: None)
        assert found is None or found[1] == expected
        path.write_bytes(content)


def test_when_all_are_damaged_it_says_that_the_run_starts_again(tmp_path: Path) -> None:
    warnings: list[str] = []
    for iteration in (2, 4):
        flip(save_checkpoint(tmp_path, iteration, _groups(), {}), -1)
    assert newest_checkpoint(tmp_path, warnings.append) is None
    assert ["00000004" in warnings[0], "00000002" in warnings[1]] == [True, True]
    assert "previous" in warnings[0]
    assert "start" in warnings[-1]
    assert newest_checkpoint(tmp_path / "nothing here", _silent) is None


def test_a_whole_checkpoint_that_does_not_fit_is_told_and_passed_over(tmp_path: Path) -> None:
    for iteration in (2, 4):
        save_checkpoint(tmp_path, iteration, _groups(), {})
    told: list[str] = []
    found = newest_checkpoint(tmp_path, told.append, lambda groups, info: "too new" if info["iteration"] > 2 else "")
    assert found is not None
    assert found[1]["iteration"] == 2
    assert [line.endswith("is of another training (too new); going back to the previous one") for line in told] == [
        True
    ]


def _of_training(iteration: int, /, **changes: Any) -> tuple[Groups, dict[str, Any]]:
    """What a training would save, but for some changes."""
    groups = {
        "params": {"w": torch.ones(2)}, "optimiser": {"count": torch.tensor(iteration)}, "slots": {"s": torch.ones(3)},
        "best": {"w": torch.ones(2)}, "streams": Streams(1).state(), "curves": {"loss": torch.ones(iteration).double()},
    }  # fmt: skip
    info = {"iteration": iteration, "environment_steps": 3, "seconds": {"outer": 0.5}, "cpu_s": 0.5, "groups": []}
    return groups | {k: v for k, v in changes.items() if k in groups}, info | {
        k: v for k, v in changes.items() if k not in groups
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"best": {}}, ""),
        ({"iteration": "3"}, "iteration"),
        ({"iteration": True}, "iteration"),
        ({"iteration": 7}, "7 iterations, and there are 5"),
        ({"environment_steps": None}, "environment_steps"),
        ({"seconds": {"outer": "1"}}, "seconds.outer"),
        ({"params": {}}, "params w: expected float32"),
        ({"params": {"w": torch.ones(3)}}, "params w: expected float32"),
        ({"params": {"w": torch.ones(2).double()}}, "params w: expected float32"),
        ({"best": {"v": torch.ones(2)}}, "best model has other parameters"),
        ({"streams": {}}, "streams init"),
        ({"curves": {"loss": torch.ones(2).double()}}, "curves are not of 3 iterations"),
    ],
)
def test_a_checkpoint_is_of_the_training_that_asks_for_it_or_says_why_not(changes: dict[str, Any], said: str) -> None:
    beginning = _of_training(0, best={}, slots={}, curves={})[0]
    why = misfit_of_training(beginning, 5, *_of_training(3, **changes))
    assert (said in why) if said else why == ""
    groups, info = _of_training(3)
    assert misfit_of_training(beginning, 5, {k: v for k, v in groups.items() if k != "best"}, info) == "it has no best"


def test_what_claims_to_be_later_and_was_passed_over_goes_when_the_next_is_saved(tmp_path: Path) -> None:
    """Else it would count as the newest, and push out those that are whole."""
    for name in ("00000008", "99999999"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"nothing")
    (tmp_path / "00000004.json").mkdir()
    for iteration in (2, 4):
        save_checkpoint(tmp_path, iteration, _groups(), {})
    assert sorted(_files(tmp_path)) == [
        "00000002.json", "00000002.safetensors", "00000004.json", "00000004.safetensors",
    ]  # fmt: skip


def _calls_and_imports() -> Iterator[tuple[str, str]]:
    for package in ("harness", "suites", "algorithms", "reports"):
        for path in sorted((PROJECT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                where = f"{path.relative_to(PROJECT)}:{getattr(node, 'lineno', 0)}"
                if isinstance(node, ast.Import):
                    yield from ((where, alias.name) for alias in node.names)
                elif isinstance(node, ast.ImportFrom):
                    yield from ((where, f"{node.module}.{alias.name}") for alias in node.names)
                elif isinstance(node, ast.Attribute):
                    yield where, ast.unparse(node)


def test_nothing_is_unpickled() -> None:
    unsafe = {"torch.load", "torch.save", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "numpy.load", "np.load"}
    modules = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    found = list(_calls_and_imports())
    assert len(found) > 500
    assert [entry for entry in found if entry[1] in unsafe or entry[1].split(".")[0] in modules] == []
    assert [entry for entry in found if entry[1].endswith((".read_pickle", ".to_pickle"))] == []
