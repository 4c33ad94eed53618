"""Every differentiable operation with inputs: checked by differences, and against PyTorch.

A case is a function of a library (lucid or torch, which share their names) and of tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

ANY, POSITIVE, UNIT = "any", "positive", "unit"


@dataclass(frozen=True)
class Case:
    name: str
    fn: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    domain: str = ANY
    second: bool = True  # has second derivatives worth checking

    def __str__(self) -> str:
        return f"{self.name}-{'-'.join('x'.join(map(str, s)) or 'scalar' for s in self.shapes)}"

    def arrays(self, seed: int = 0) -> list[np.ndarray]:
        """Return float64 inputs, away from kinks and poles."""
        rng = np.random.default_rng(seed)
        return [sample(rng, shape, self.domain) for shape in self.shapes]


def sample(rng: np.random.Generator, shape: tuple[int, ...], domain: str) -> np.ndarray:
    if domain == POSITIVE:
        return np.asarray(rng.uniform(0.5, 2.0, shape))
    if domain == UNIT:
        return np.asarray(rng.uniform(-0.9, 0.9, shape))
    size = int(np.prod(shape))
    # Distinct values, none near a whole or a half number: no ties, no kinks within a step.
    steps = np.arange(size) - size // 2
    values = rng.permutation(steps) * 0.37 + 0.12 + rng.uniform(0, 0.02, size)
    values = np.where(np.abs(values * 2 - np.round(values * 2)) < 0.02, values + 0.03, values)
    values = values / (1 if size < 16 else size / 16)
    return np.asarray(values.reshape(shape))


def pad(lib: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    return (
        lib.nn.functional.pad(x, *args, **kwargs)
        if lib.__name__ == "torch"
        else lib.pad(x, *args, **kwargs)
    )


BINARY = [
    ((3, 4), (3, 4)),
    ((3, 4), (4,)),
    ((3, 1), (1, 4)),
    ((), (2, 3)),
    ((2, 3), ()),
    ((1,), (1,)),
    ((0, 3), (3,)),
    ((2, 1, 3), (4, 1)),
]
UNARY = [((3, 4),), ((),), ((1,),), ((0, 2),), ((2, 1, 3),)]


def _many(
    name: str, fn: Callable[..., Any], shapes: list[Any], domain: str = ANY, second: bool = True
) -> list[Case]:
    return [Case(name, fn, shape, domain, second) for shape in shapes]


ELEMENTWISE = [
    *_many("add", lambda lib, a, b: a + b, BINARY),
    *_many("sub", lambda lib, a, b: a - b, BINARY),
    *_many("mul", lambda lib, a, b: a * b, BINARY),
    *_many("div", lambda lib, a, b: a / b, BINARY, POSITIVE),
    *_many("pow", lambda lib, a, b: a**b, BINARY, POSITIVE),
    *_many("remainder", lambda lib, a, b: a % b, BINARY, POSITIVE),
    *_many(
        "maximum", lambda lib, a, b: lib.maximum(a, b), [((3, 4), (3, 4)), ((3, 1), (4,))], UNIT
    ),
    *_many(
        "minimum", lambda lib, a, b: lib.minimum(a, b), [((3, 4), (3, 4)), ((3, 1), (4,))], UNIT
    ),
    *_many("max_pairs", lambda lib, a, b: lib.max(a, b), [((3, 4), (3, 4))], UNIT),
    *_many("reflected", lambda lib, x: (2 - x) * 3 / (1.5 / x) + 2**x, UNARY, POSITIVE),
    *_many("neg", lambda lib, x: -x, UNARY),
    *_many("abs", lambda lib, x: abs(x), UNARY),
    *_many("square", lambda lib, x: x**2, UNARY),
    *_many("cube", lambda lib, x: x**3, UNARY),
    *_many("power_0", lambda lib, x: x**0, UNARY),
    *_many("power_1", lambda lib, x: x**1, UNARY),
    *_many("power_half", lambda lib, x: x**0.5, UNARY, POSITIVE),
    *_many("power_minus_1", lambda lib, x: x**-1, UNARY, POSITIVE),
    *_many("sqrt", lambda lib, x: lib.sqrt(x), UNARY, POSITIVE),
    *_many("rsqrt", lambda lib, x: lib.rsqrt(x), UNARY, POSITIVE),
    *_many("reciprocal", lambda lib, x: lib.reciprocal(x), UNARY, POSITIVE),
    *_many("exp", lambda lib, x: lib.exp(x), UNARY),
    *_many("expm1", lambda lib, x: lib.expm1(x), UNARY),
    *_many("log", lambda lib, x: lib.log(x), UNARY, POSITIVE),
    *_many("log1p", lambda lib, x: lib.log1p(x), UNARY, POSITIVE),
    *_many("sigmoid", lambda lib, x: lib.sigmoid(x), UNARY),
    *_many("erf", lambda lib, x: lib.erf(x), UNARY),
    *_many("sin", lambda lib, x: lib.sin(x), UNARY),
    *_many("cos", lambda lib, x: lib.cos(x), UNARY),
    *_many("tan", lambda lib, x: lib.tan(x), UNARY, UNIT),
    *_many("tanh", lambda lib, x: lib.tanh(x), UNARY),
    *_many("sign", lambda lib, x: lib.sign(x) * x, UNARY),
    *_many("floor", lambda lib, x: lib.floor(x) * x, UNARY),
    *_many("ceil", lambda lib, x: lib.ceil(x) * x, UNARY),
    *_many("round", lambda lib, x: lib.round(x) * x, UNARY),
    *_many("clamp", lambda lib, x: lib.clamp(x, -0.5, 0.5), UNARY),
    *_many("clamp_min", lambda lib, x: lib.clamp(x, min=0), UNARY),
    *_many("clamp_max", lambda lib, x: x.clamp(max=0.25), UNARY),
    *_many(
        "clamp_tensors",
        lambda lib, x, low, high: lib.clamp(x, low, high),
        [((3, 4), (3, 4), (3, 4)), ((3, 4), (4,), (3, 1))],
    ),
    *_many("where", lambda lib, a, b: lib.where(a > b, a * 2, b * b), BINARY),
    *_many("masked_fill", lambda lib, x: x.masked_fill(x > 0, 1.5), UNARY),
    *_many("float", lambda lib, x: (x * 2).to(x.dtype), UNARY),
]

REDUCE = [
    Case(f"{name}-{dim}-{keep}", fn, ((2, 3, 4),), domain)
    for dim in (0, -1, (0, 2), (1, 2))
    for keep in (False, True)
    for name, fn, domain in [
        ("sum", lambda lib, x, d=dim, k=keep: lib.sum(x, d, k), ANY),
        ("mean", lambda lib, x, d=dim, k=keep: x.mean(dim=d, keepdim=k), ANY),
        ("var", lambda lib, x, d=dim, k=keep: lib.var(x, d, keepdim=k), ANY),
        ("std", lambda lib, x, d=dim, k=keep: lib.std(x, dim=d, keepdim=k, correction=0), ANY),
        ("amax", lambda lib, x, d=dim, k=keep: lib.amax(x, d, k), ANY),
        ("amin", lambda lib, x, d=dim, k=keep: x.amin(d, k), ANY),
        ("logsumexp", lambda lib, x, d=dim, k=keep: lib.logsumexp(x, d, k), ANY),
        ("norm", lambda lib, x, d=dim, k=keep: lib.norm(x, dim=d, keepdim=k), ANY),
    ]
]
WHOLE = [((2, 3),), ((),), ((1,),)]
ROWS = [((3, 4),), ((1, 4),), ((4, 1),), ((2, 0),)]

REDUCE += [
    *_many("sum", lambda lib, x: x.sum(), [*WHOLE, ((0, 3),)]),
    *_many("sum_empty_axis", lambda lib, x: lib.sum(x, 0), [((0, 3),)]),
    *_many("mean", lambda lib, x: lib.mean(x), WHOLE),
    *_many("var", lambda lib, x: x.var(), [((2, 3),), ((5,),)]),
    *_many("var_biased", lambda lib, x: x.var(unbiased=False), [((2, 3),), ((5,),)]),
    *_many("var_boolean", lambda lib, x: lib.var(x, False) + x.var(True), [((2, 3),)]),
    *_many("std_boolean", lambda lib, x: lib.std(x, False) + x.std(True), [((2, 3),)]),
    *_many("var_none", lambda lib, x: lib.var(x, 1, correction=None), [((2, 3),)]),
    *_many("std_none", lambda lib, x: x.std(dim=None, correction=None), [((2, 3),)]),
    *_many("std", lambda lib, x: x.std(), [((2, 3),), ((5,),)]),
    *_many("max", lambda lib, x: x.max(), WHOLE),
    *_many("min", lambda lib, x: lib.min(x), WHOLE),
    *_many("max_dim", lambda lib, x: lib.max(x, 1).values, [((3, 4),), ((1, 4),)]),
    *_many("min_dim", lambda lib, x: x.min(dim=0, keepdim=True)[0], [((3, 4),), ((4, 1),)]),
    *_many("prod", lambda lib, x: x.prod(), [*WHOLE, ((0, 2),)]),
    *_many("prod_dim", lambda lib, x: lib.prod(x, 1), [((3, 4),), ((2, 1),)]),
    *_many("cumsum", lambda lib, x: lib.cumsum(x, 0), [((3, 4),), ((1,),), ((0, 2),), ((),)]),
    *_many("logsumexp_all", lambda lib, x: lib.logsumexp(x, (0, 1)), [((2, 3),)]),
    *_many("norm_1", lambda lib, x: x.norm(1), WHOLE),
    *_many("norm_3", lambda lib, x: x.norm(3, 0), [((4, 3),)]),
    *_many("norm_inf", lambda lib, x: x.norm(float("inf")), WHOLE),
    *_many("norm_2", lambda lib, x: lib.norm(x), [((2, 3),), ((1,),)]),
    *_many("softmax", lambda lib, x: lib.softmax(x, 1), ROWS),
    *_many("softmax_first", lambda lib, x: x.softmax(dim=0), [((3, 4),), ((),)]),
    *_many("log_softmax", lambda lib, x: lib.log_softmax(x, -1), [*ROWS, ((),)]),
    *_many("sort", lambda lib, x: lib.sort(x).values, [((3, 4),), ((0,),), ((),)]),
    *_many("sort_down", lambda lib, x: x.sort(0, descending=True)[0], [((3, 4),)]),
    *_many("topk", lambda lib, x: lib.topk(x, 2).values, [((3, 4),), ((2,),)]),
    *_many("topk_smallest", lambda lib, x: x.topk(3, 0, largest=False)[0], [((3, 2),)]),
]

IMAGE = [((2, 3, 4, 5),)]
SHAPE = [
    *_many("reshape", lambda lib, x: x.reshape(-1, 2) * 2, [((3, 4),), ((2, 1, 3),)]),
    *_many("reshape_tuple", lambda lib, x: lib.reshape(x, (2, 6)), [((3, 4),), ((12,),)]),
    *_many("view", lambda lib, x: x.view(4, 3), [((3, 4),)]),
    *_many("reshape_empty", lambda lib, x: x.reshape(3, 0), [((0, 2),)]),
    *_many("reshape_transposed", lambda lib, x: x.permute(0, 2, 3, 1).reshape(2, -1), IMAGE),
    *_many("flatten", lambda lib, x: lib.flatten(x, 1), [*IMAGE, ((3, 4),)]),
    *_many("flatten_all", lambda lib, x: x.flatten(), [*IMAGE, ((),)]),
    *_many("unflatten", lambda lib, x: x.unflatten(1, (2, -1)), [((3, 4),)]),
    *_many("permute", lambda lib, x: x.permute(0, -1, 1, 2), IMAGE),
    *_many("transpose", lambda lib, x: lib.transpose(x, -1, 0), [*IMAGE, ((3, 4),)]),
    *_many("swapaxes", lambda lib, x: x.swapaxes(1, 2), IMAGE),
    *_many("T", lambda lib, x: x.T @ x.t().mT, [((3, 3),)]),
    *_many("movedim", lambda lib, x: lib.movedim(x, (0, 1), (-1, 0)), IMAGE),
    *_many("movedim_one", lambda lib, x: x.movedim(1, 3), IMAGE),
    *_many("squeeze", lambda lib, x: x.squeeze(), [((2, 1, 3, 1),), ((1, 1),)]),
    *_many("squeeze_dim", lambda lib, x: x.squeeze(1) + x.squeeze(0)[:, 0], [((2, 1, 2),)]),
    *_many("unsqueeze", lambda lib, x: x.unsqueeze(-1) + x.unsqueeze(0), [((3,),), ((),)]),
    *_many("expand", lambda lib, x: x.expand(2, 3, -1), [((3, 4),), ((1, 4),), ((3, 0),)]),
    *_many("expand_as", lambda lib, x, y: x.expand_as(y) * y, [((1, 4), (3, 4)), ((), (2,))]),
    *_many("broadcast_to", lambda lib, x: lib.broadcast_to(x, (2, 3)), [((3,),), ((2, 1),)]),
    *_many("clone", lambda lib, x: x.clone() * x.contiguous(), [((3, 4),)]),
    *_many("flip", lambda lib, x: lib.flip(x, (0, -1)), [((3, 4),), ((2, 0, 3),)]),
    *_many(
        "dims_by_name",
        lambda lib, x: lib.flip(x, dims=(0,)) * lib.tile(lib.permute(x, dims=(1, 0)), dims=(1,)),
        [((3, 3),)],
    ),
    *_many("roll", lambda lib, x: lib.roll(x, 5), [((3, 4),)]),
    *_many("roll_dims", lambda lib, x: x.roll((1, -2), (0, 1)), [((3, 4),), ((1, 3),)]),
    *_many("tile", lambda lib, x: lib.tile(x, (2, 3)), [((3,),), ((2, 3),), ((2, 1, 3),), ((),)]),
    *_many("repeat", lambda lib, x: x.repeat(2, 1, 3), [((3,),), ((2, 3),), ((2, 1, 3),)]),
    *_many("repeat_none", lambda lib, x: x.repeat(0, 2), [((2, 3),)]),
    *_many("cat", lambda lib, a, b: lib.cat([a, b, a], 1), [((2, 3), (2, 1)), ((2, 0), (2, 3))]),
    *_many("stack", lambda lib, a, b: lib.stack((a, b), -1), [((2, 3), (2, 3)), ((), ())]),
    *_many("split", lambda lib, x: x.split(2, 1)[1] * 2, [((2, 5),), ((2, 3),)]),
    *_many("split_sizes", lambda lib, x: lib.split(x, [1, 4], 1), [((2, 5),)]),
    *_many("chunk", lambda lib, x: lib.chunk(x, 3, dim=-1), [((2, 5),), ((2, 2),)]),
    *_many("unbind", lambda lib, x: x.unbind(1)[1] * x.unbind(1)[0], [((2, 3),)]),
    *_many("iterate", lambda lib, x: sum(row * i for i, row in enumerate(x)), [((2, 3),)]),
    *_many("pad", lambda lib, x: pad(lib, x, (1, 2, 0, 1), value=2.5), [*IMAGE, ((2, 2),)]),
    *_many("pad_cut", lambda lib, x: pad(lib, x, (-1, 2, 1, -2)), IMAGE),
    *_many("pad_reflect", lambda lib, x: pad(lib, x, (2, 3, 1, 0), mode="reflect"), IMAGE),
    *_many("pad_replicate", lambda lib, x: pad(lib, x, (2, 6, 1, 0), mode="replicate"), IMAGE),
    *_many("pad_circular", lambda lib, x: pad(lib, x, (2, 3, 1, 0), mode="circular"), IMAGE),
]

CUBE = [((3, 4, 5),)]
ROW_INDEX = np.array([2, 0, 2, -1])
INDEX = [
    Case(f"getitem-{number}", lambda lib, x, index=index: x[index], ((3, 4, 5),))
    for number, index in enumerate(
        [
            1,
            -1,
            slice(1, 3),
            (slice(None), slice(0, 4, 2), slice(3, 1)),
            (..., 2),
            (0, ..., None),
            (None, 1, slice(None), None, 2),
            (1, 2, 3),
            np.array([0, 2, 0]),
            [1, 1, 2],
            (slice(None), [0, 3, 3]),
            ([0, 2], [1, 1]),
            ([0, 0, 0], slice(1, 3), [4, 4, 1]),
            (np.array([[0], [2]]), np.array([1, 1, 3])),
            (slice(0, 2), ROW_INDEX, None),
            (..., ROW_INDEX),
            (1, ROW_INDEX),
            np.arange(3) > 0,
            np.zeros(3, bool),
            np.random.default_rng(0).random((3, 4)) > 0.5,
            np.random.default_rng(0).random((3, 4, 5)) > 0.5,
            (np.array([True, False, True]), slice(None), [0, 4]),
            np.zeros((0,), np.int64),
        ]
    )
]
INDEX += [
    *_many("tensor_index", lambda lib, x: x[lib.tensor([1, 1, 0])], CUBE),
    *_many("tensor_mask", lambda lib, x: x[x > 0], CUBE),
    *_many("index_select", lambda lib, x: lib.index_select(x, 1, lib.tensor([3, 3, 0])), CUBE),
    *_many("gather", lambda lib, x: lib.gather(x, 1, lib.tensor([[0, 0], [3, 1]])), [((3, 4),)]),
    *_many("gather_rows", lambda lib, x: x.gather(0, lib.tensor([[2, 2, 1]])), [((3, 4),)]),
    *_many(
        "take_along_dim",
        lambda lib, x: lib.take_along_dim(x, lib.argsort(x, 1), 1),
        [((3, 4),)],
    ),
    *_many("take_broadcast", lambda lib, x: x.take_along_dim(lib.tensor([[0, 0]]), 1), [((3, 4),)]),
    *_many("take_flat", lambda lib, x: lib.take_along_dim(x, lib.tensor([7, 0])), [((3, 4),)]),
    *_many(
        "scatter",
        lambda lib, x, y: lib.scatter(x, 1, lib.tensor([[3, 0], [1, 2]]), y),
        [((3, 4), (2, 2))],
    ),
    *_many("scatter_number", lambda lib, x: x.scatter(0, lib.tensor([[1, 0]]), 7.0), [((3, 4),)]),
    *_many(
        "scatter_add",
        lambda lib, x, y: x.scatter_add(1, lib.tensor([[3, 3], [1, 1]]), y),
        [((3, 4), (2, 2))],
    ),
    *_many("tril", lambda lib, x: lib.tril(x, -1) + x.tril(1), [((3, 4),), ((2, 3, 3),)]),
    *_many("triu", lambda lib, x: lib.triu(x) + x.triu(1), [((3, 4),), ((2, 3, 3),)]),
]

MATRIX = [
    *_many(
        "matmul",
        lambda lib, a, b: a @ b,
        [
            ((2, 3), (3, 4)),
            ((3,), (3,)),
            ((3,), (3, 4)),
            ((2, 3), (3,)),
            ((5, 2, 3), (5, 3, 4)),
            ((5, 2, 3), (3, 4)),
            ((2, 3), (5, 3, 4)),
            ((2, 1, 2, 3), (4, 3, 2)),
            ((3,), (2, 3, 4)),
            ((2, 2, 3), (3,)),
            ((2, 0), (0, 3)),
            ((0, 2), (2, 3)),
            ((0, 2, 3), (3, 4)),
            ((1, 1), (1, 1)),
        ],
    ),
    *_many("mm", lambda lib, a, b: lib.mm(a, b), [((2, 3), (3, 1))]),
    *_many("bmm", lambda lib, a, b: lib.bmm(a, b), [((2, 2, 3), (2, 3, 1))]),
    *_many("dot", lambda lib, a, b: lib.dot(a, b), [((4,), (4,)), ((0,), (0,))]),
    *_many("outer", lambda lib, a, b: lib.outer(a, b), [((4,), (3,))]),
]
MATRIX += [
    Case(f"einsum-{equation}", lambda lib, *x, e=equation: lib.einsum(e, *x), shapes)
    for equation, shapes in [
        ("ij,jk->ik", ((2, 3), (3, 4))),
        ("bij,bjk->bik", ((2, 2, 3), (2, 3, 2))),
        ("ij,jk", ((2, 3), (3, 4))),
        ("i,j->ij", ((2,), (3,))),
        ("i,i", ((3,), (3,))),
        ("ij->ji", ((2, 3),)),
        ("ij->", ((2, 3),)),
        ("ij->j", ((2, 3),)),
        ("ii->i", ((3, 3),)),
        ("ii", ((3, 3),)),
        ("ijj->i", ((2, 3, 3),)),
        ("iji->j", ((2, 3, 2),)),
        ("...ij,...jk->...ik", ((2, 1, 2, 3), (4, 3, 2))),
        ("...i,i->...", ((2, 3), (3,))),
        ("b...,b->...", ((2, 3, 4), (2,))),
        ("i...->...", ((2, 3),)),
        ("ij,ik,il->jkl", ((2, 3), (2, 2), (2, 2))),
        ("bhqd,bhkd->bhqk", ((1, 2, 3, 2), (1, 2, 2, 2))),
        ("ij,kl->", ((2, 2), (2, 3))),
        ("ij,i->ij", ((2, 3), (2,))),
        ("i,->i", ((3,), ())),
    ]
]

CASES = [*ELEMENTWISE, *REDUCE, *SHAPE, *INDEX, *MATRIX]
