"""Where a run computes: the one place that knows of GPUs.

Suites and methods name no device. On CUDA, inside :func:`computing_on`, what they create is created there, and what
they draw is drawn on the CPU and taken there: a seed means the same random numbers wherever a run computes. Two things
are theirs to know, because PyTorch lets nobody intervene there: what comes from NumPy enters through
``torch.as_tensor`` (``torch.from_numpy`` stays on the CPU), and what goes to NumPy leaves through ``.cpu()``.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Generator, Tensor
from torch.overrides import TorchFunctionMode

from harness.api import Params
from harness.errors import UserError
from harness.spec import Device

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
"""Without ``:4096:8`` or ``:16:8`` in it, cuBLAS may sum in another order from call to call."""
HARMLESS = "cumsum_cuda_kernel does not have a deterministic implementation"
"""PyTorch says so of every cumulative sum; of several rows along their last axis each is summed in a fixed order."""


def require_device(device: Device) -> None:
    """Refuse ``cuda`` where this process sees no GPU. Errors: UserError."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            f"device: cuda, but PyTorch {torch.__version__} sees no GPU on this machine; "
            "`device: auto` takes one where there is one, `device: cpu` needs none"
        )


def describe(device: Device) -> str:
    """What the manifest records: ``cpu``, or ``cuda: NVIDIA H200``."""
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return "cpu"
    return f"cuda: {torch.cuda.get_device_name() if torch.cuda.is_available() else 'no GPU'}"


@contextlib.contextmanager
def computing_on(device: Device) -> Iterator[None]:
    """Build and execute a run on a device; on the CPU nothing at all is changed. Errors: see :func:`require_device`.

    On CUDA float32 products are made in float32 (no TF32) and sums in a fixed order, as far as PyTorch can.
    """
    require_device(device)
    if device == "cpu" or not torch.cuda.is_available():
        yield
        return
    with _reproducible(), placing_on(torch.device("cuda")):
        yield


@contextlib.contextmanager
def placing_on(device: torch.device) -> Iterator[None]:
    """Tensors that are created without a device are created on this one; see :class:`DrawsOnTheCpu` for random ones."""
    with device, DrawsOnTheCpu(device):
        yield


class DrawsOnTheCpu(TorchFunctionMode):
    """Draws with a CPU generator are made on the CPU, from copies of their arguments, and taken to the device.

    In-place draws and ``out=`` are made in a copy with the same strides, on which the order of the numbers depends.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if any(isinstance(value, Generator) and value.device.type == "cpu" for value in (*args, *kwargs.values())):
            with torch.device("cpu"):
                return self._draw(func, args, kwargs)
        return func(*args, **kwargs)

    def _draw(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        written, twin = _written(func, args, kwargs), None
        if written is not None:
            twin = torch.empty_strided(written.shape, written.stride(), dtype=written.dtype)

        def on_the_cpu(value: Any) -> Any:
            return twin if value is written else value.cpu() if isinstance(value, Tensor) else value

        named = {name: on_the_cpu(value) for name, value in kwargs.items() if name not in ("device", "requires_grad")}
        drawn = func(*map(on_the_cpu, args), **named)
        if written is None or twin is None:
            placed = drawn.to(kwargs.get("device") or self._device)
            return placed.requires_grad_() if kwargs.get("requires_grad") else placed
        if written.shape != twin.shape:  # a tensor given as `out` takes the shape of the draw
            written.resize_(twin.shape)
        return written.copy_(twin)


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """The tensor that a draw writes to, None if it makes a new one."""
    if kwargs.get("out") is not None:
        out: Tensor = kwargs["out"]
        return out
    if func.__name__.endswith("_"):
        return next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
    return None


def placed(tensors: Params) -> Params:
    """The same tensors where the run computes: those of a checkpoint come from the CPU."""
    return {name: torch.as_tensor(tensor) for name, tensor in tensors.items()}


def wait_for_device() -> None:
    """Return when a GPU has done all that it was given, so that a clock is honest; at once where none is used."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


@contextlib.contextmanager
def _reproducible() -> Iterator[None]:
    """Full float32 precision and deterministic algorithms; afterwards everything is as it was."""
    precision, workspace = torch.get_float32_matmul_precision(), os.environ.get(WORKSPACE)
    strict, lenient = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    try:
        os.environ.setdefault(WORKSPACE, ":4096:8")
        torch.set_float32_matmul_precision("highest")
        torch.use_deterministic_algorithms(True, warn_only=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=HARMLESS)
            yield
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=lenient)
        torch.set_float32_matmul_precision(precision)
        if workspace is None:
            os.environ.pop(WORKSPACE, None)
