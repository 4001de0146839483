"""A device that is none: what is placed there is computed on the CPU, but shares nothing with CPU tensors.

A stand-in for a GPU that every machine has. It is stricter than CUDA: a CPU tensor of any size in a computation is
refused, where CUDA lets numbers and indices pass.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

from harness.device import placing_on

ELSEWHERE = torch.device("lazy", 0)
"""PyTorch's name for it. Nothing is registered under that name; autograd works on it in the calling thread."""
BETWEEN_DEVICES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}


class Placed(Tensor):
    """A tensor that says it is elsewhere; ``content`` is what it holds, on the CPU."""

    content: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, content: Tensor) -> Placed:
        made: Placed = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, content.shape, strides=content.stride(), storage_offset=content.storage_offset(),
            dtype=content.dtype, device=ELSEWHERE,
        )  # fmt: skip
        made.content = content
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} outside of the pretended device")


class PretendedDevice(TorchDispatchMode):
    """While it is entered, :data:`ELSEWHERE` is a device. ``operations``: how often each ran there."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()

    def __enter__(self) -> PretendedDevice:
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor then shows its way to the device
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        torch._C._set_only_lift_cpu_tensors(False)
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        given = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
        there = any(isinstance(value, Placed) for value in given)
        if there and func not in BETWEEN_DEVICES and not all(isinstance(value, Placed) for value in given):
            raise RuntimeError(f"{func}: tensors on different devices")
        if func is torch.ops.aten.copy_.default:
            there = isinstance(args[0], Placed)
        if kwargs.get("device") is not None:
            there = kwargs["device"].type == ELSEWHERE.type
            kwargs["device"] = torch.device("cpu")
        self.operations[str(func)] += there
        plain = tree_map(_content, (args, kwargs))
        result = func(*plain[0], **plain[1])
        if not there:
            return result
        result = tree_map(lambda value: Placed(value) if isinstance(value, Tensor) else value, result)
        return return_and_correct_aliasing(func, args, kwargs, result)


class Readable(TorchFunctionMode):
    """Lists of numbers from tensors that are elsewhere, which PyTorch denies to every subclass."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.tolist:
            return args[0].cpu().tolist()
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def elsewhere() -> Iterator[PretendedDevice]:
    """What a GPU run is inside: tensors are created elsewhere, and drawn on the CPU."""
    with PretendedDevice() as device, placing_on(ELSEWHERE), Readable():
        yield device


def _content(value: Any) -> Any:
    return value.content if isinstance(value, Placed) else value
