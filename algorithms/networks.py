"""Multi-layer perceptrons over explicit parameters, batched over tasks, with hand-written derivatives.

A network is a flat dictionary ``{"0/weight": [in, out], "0/bias": [out], "1/weight": ...}``. Every tensor may carry a
leading ``tasks`` axis, so that one call evaluates one adapted network per task.

There are two ways through a network, with the same mathematics:

* :func:`forward` has no gradient and is made for small batches, the one step of a rollout;
* :func:`mlp` is differentiable twice and made for large batches, the gradient of a loss over whole rollouts. Its
  derivatives are written out by hand because recorded operations would spend half of the time on memory traffic:
  features are kept as rows, so that every hidden product runs over contiguous samples, and masks are applied in place.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

Params = dict[str, Tensor]


def init_mlp(rng: torch.Generator, sizes: Sequence[int], scheme: str, dtype: torch.dtype = torch.float32) -> Params:
    """Draw the initial weights and biases.

    ``uniform_fan_in``: weights and biases from U(-1/sqrt(in), 1/sqrt(in)), the default of PyTorch's linear layer.
    ``xavier_uniform``: weights from U(-a, a), a = sqrt(6 / (in + out)), biases zero (Glorot & Bengio 2010, eq. 16).

    Shapes:
        sizes: (in, hidden, ..., out)
        returns: ``{"<layer>/weight": [in, out], "<layer>/bias": [out]}``
    """
    params: Params = {}
    for layer, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        fan_in = 1.0 / math.sqrt(n_in)
        bound = fan_in if scheme == "uniform_fan_in" else math.sqrt(6.0 / (n_in + n_out))
        weight = torch.rand(n_in, n_out, generator=rng, dtype=dtype)
        bias = torch.rand(n_out, generator=rng, dtype=dtype)
        params[f"{layer}/weight"] = (2.0 * weight - 1.0) * bound
        params[f"{layer}/bias"] = (2.0 * bias - 1.0) * (fan_in if scheme == "uniform_fan_in" else 0.0)
    return params


def layers(params: Mapping[str, Tensor], prefix: str) -> list[Tensor]:
    """The tensors under ``prefix`` in order: weight, bias, weight, bias, ..."""
    ordered: list[Tensor] = []
    while f"{prefix}/{len(ordered) // 2}/weight" in params:
        layer = len(ordered) // 2
        ordered += [params[f"{prefix}/{layer}/weight"], params[f"{prefix}/{layer}/bias"]]
    return ordered


def forward(weights: Sequence[Tensor], inputs: Tensor, activation: str) -> Tensor:
    """Evaluate a network without gradients.

    Shapes:
        weights: as :func:`layers` gives them, [in, out] and [out], or [tasks, in, out] and [tasks, out]
        inputs: [tasks, samples, in]
        returns: [tasks, samples, out]
    """
    last = len(weights) // 2 - 1
    shared = weights[0].dim() == 2
    hidden = inputs.reshape(-1, inputs.shape[-1]) if shared else inputs
    for layer in range(last + 1):
        weight, bias = weights[2 * layer], weights[2 * layer + 1]
        bias_rows = bias if shared else bias.unsqueeze(-2)
        hidden = torch.addmm(bias_rows, hidden, weight) if shared else torch.baddbmm(bias_rows, hidden, weight)
        if layer < last:
            hidden = hidden.relu_() if activation == "relu" else hidden.tanh_()
    return hidden.view(*inputs.shape[:-1], -1) if shared else hidden


def mlp(weights: Sequence[Tensor], inputs: Tensor, activation: str) -> Tensor:
    """Evaluate one network per task; differentiable twice with respect to the weights (not the inputs).

    Shapes:
        weights: [tasks, in, out], [tasks, out], ...
        inputs: [tasks, samples, in]
        returns: [tasks, samples, out]
    """
    return _Forward.apply(activation == "relu", inputs.transpose(1, 2).contiguous(), *weights)[0].transpose(1, 2)


def observed(weights: Sequence[Tensor], observations: Tensor, table: Tensor | None, activation: str) -> Tensor:
    """:func:`mlp` on observations that are vectors, or row numbers of a table.

    With a table the network is evaluated once per row, however many samples there are.

    Shapes:
        weights: [tasks, in, out], [tasks, out], ...
        observations: [tasks, samples, in], or [tasks, samples, 1] int64 with table [rows, in]
        returns: [tasks, samples, out]
    """
    if table is None:
        return mlp(weights, observations, activation)
    rows = mlp(weights, rows_per_task(weights, table), activation)
    return rows.gather(1, observations.expand(-1, -1, rows.shape[-1]))


@torch.no_grad()
def hidden_layers(weights: Sequence[Tensor], inputs: Tensor, activation: str) -> list[Tensor]:
    """Inputs and hidden layers with features as rows, [tasks, features, samples] each, for :func:`mlp_tangent`."""
    outputs = _Forward.apply(activation == "relu", inputs.transpose(1, 2).contiguous(), *weights)
    return [inputs.transpose(1, 2), *outputs[1:]]


@torch.no_grad()
def mlp_tangent(
    weights: Sequence[Tensor], hidden: Sequence[Tensor], directions: Sequence[Tensor], activation: str
) -> Tensor:
    """How the outputs of :func:`mlp` move when the weights move: the product of their Jacobian with ``directions``.

    Shapes: weights, directions [tasks, in, out], [tasks, out], ...; returns [tasks, samples, out].
    """
    return _tangents(activation == "relu", hidden, weights[::2], directions)[1][-1].transpose(1, 2)


def rows_per_task(weights: Sequence[Tensor], table: Tensor) -> Tensor:
    """Every row of a table [rows, in] as inputs for the network of every task, [tasks, rows, in], without a copy."""
    return table.to(weights[0].dtype).expand(weights[0].shape[0], *table.shape)


# Notation of the three passes below, per task, with samples along the columns:
#   forward   a_l = W_l' h_{l-1} + b_l,  h_l = s(a_l),  z = a_L
#   backward  d_L = dz,  e_l = W_{l+1} d_{l+1} (+ what flows into h_l from elsewhere),  d_l = e_l * s'(h_l),
#             grad W_l = h_{l-1} d_l',  grad b_l = sum d_l
#   backward of backward, for cotangents V_l, c_l of the weight gradients (Pearlmutter 1994, the R-operator):
#             r_l = s'(h_l) * (V_l' h_{l-1} + W_l' r_{l-1} + c_l),  r_0 = 0
# The hidden h_l are outputs of the forward pass, so that the second derivatives that reach them are added up before
# one single backward sweep.


class _Forward(Function):
    @staticmethod
    def forward(ctx: Any, relu: bool, inputs: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        hidden = [inputs]
        last = len(weights) // 2 - 1
        for layer in range(last + 1):
            weight, bias = weights[2 * layer], weights[2 * layer + 1]
            pre = torch.bmm(weight.transpose(1, 2), hidden[-1]).add_(bias.unsqueeze(-1))
            if layer < last:
                pre = pre.relu_() if relu else pre.tanh_()
            hidden.append(pre)
        ctx.relu = relu
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*hidden[:-1], *weights[::2])
        return (hidden[-1], *hidden[1:-1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        of_output = grads[0]
        if of_output is None:  # only the hidden layers were asked for, by a second derivative
            inputs, last_weight = ctx.saved_tensors[0], ctx.saved_tensors[-1]
            of_output = inputs.new_zeros(inputs.shape[0], last_weight.shape[-1], inputs.shape[-1])
        return (None, None, *_Backward.apply(ctx.relu, len(grads), of_output, *grads[1:], *ctx.saved_tensors))


class _Backward(Function):
    @staticmethod
    def forward(ctx: Any, relu: bool, depth: int, *tensors: Any) -> tuple[Tensor, ...]:
        """``tensors``: the gradient of z, of h_1 ... h_{L-1} (or None); then h_0 ... h_{L-1}; then W_1 ... W_L."""
        delta, into = tensors[0], tensors[1:depth]
        hidden, weights = tensors[depth : 2 * depth], tensors[2 * depth :]
        grads: list[Tensor] = []
        deltas: list[Tensor] = [delta]
        errors: list[Tensor] = []
        for layer in range(depth - 1, -1, -1):
            grads[:0] = [_outer(hidden[layer], delta), delta.sum(-1)]
            if layer:
                error = torch.bmm(weights[layer], delta)
                if into[layer - 1] is not None:
                    error.add_(into[layer - 1])
                if relu:
                    delta = _mask_(error, hidden[layer])
                else:
                    delta = _tanh_slope(error, hidden[layer])
                    errors.insert(0, error)
                deltas.insert(0, delta)
        ctx.relu, ctx.depth = relu, depth
        ctx.save_for_backward(*hidden, *weights, *deltas, *errors)
        return tuple(grads)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        depth, relu = ctx.depth, ctx.relu
        saved = ctx.saved_tensors
        hidden, weights, deltas = saved[:depth], saved[depth : 2 * depth], saved[2 * depth : 3 * depth]
        errors = saved[3 * depth :]
        moved, tangents = _tangents(relu, hidden, weights, cotangents)
        to_hidden: list[Tensor] = []
        to_weights: list[Tensor | None] = [None]  # h_0 is the input: nothing moves it
        for layer in range(1, depth):
            to_weights.append(_outer(tangents[layer - 1], deltas[layer]))
            by_direction = torch.bmm(cotangents[2 * layer], deltas[layer])
            if not relu:
                # d/dh (1 - h^2) = -2h acts on the product e * (V'h + W'r + c)
                by_direction.addcmul_(moved[layer - 1].mul_(errors[layer - 1]), hidden[layer], value=-2.0)
            to_hidden.append(by_direction)
        return (None, None, tangents[-1], *[None] * (depth - 1), None, *to_hidden, *to_weights)


def _tangents(
    relu: bool, hidden: Sequence[Tensor], weights: Sequence[Tensor], directions: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """(V_l' h_{l-1} + W_l' r_{l-1} + c_l, r_l) for every layer; ``weights`` W_l, ``directions`` V_1, c_1, V_2, ..."""
    moved_all: list[Tensor] = []
    tangents: list[Tensor] = []
    for layer, weight in enumerate(weights):
        direction, shift = directions[2 * layer], directions[2 * layer + 1]
        moved = torch.bmm(direction.transpose(1, 2), hidden[layer]).add_(shift.unsqueeze(-1))
        if tangents:
            moved.baddbmm_(weight.transpose(1, 2), tangents[-1])
        if layer == len(weights) - 1:
            tangents.append(moved)
        elif relu:
            tangents.append(_mask_(moved, hidden[layer + 1]))
        else:
            tangents.append(_tanh_slope(moved, hidden[layer + 1]))
        moved_all.append(moved)
    return moved_all, tangents


def _outer(left: Tensor, right: Tensor) -> Tensor:
    """left right', summed over samples; a thin result is made in the orientation that the product is fast in."""
    if right.shape[1] < left.shape[1]:
        return torch.bmm(right, left.transpose(1, 2)).transpose(1, 2)
    return torch.bmm(left, right.transpose(1, 2))


def _mask_(values: Tensor, hidden: Tensor) -> Tensor:
    """Zero ``values`` in place where the rectifier was closed."""
    return torch.ops.aten.threshold_backward(values, hidden, 0, grad_input=values)


def _tanh_slope(values: Tensor, hidden: Tensor) -> Tensor:
    """``values`` (1 - h²) in one pass; h = tanh(.)."""
    return torch.ops.aten.tanh_backward(values, hidden)
