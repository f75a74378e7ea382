"""torch.library, torch.func, torch.compile and the like, alike for both convolutions."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from tests.ops.convolution import (
    ACTIVATIONS,
    ALGORITHMS,
    CASES,
    Case,
    Convolution,
    algorithms,
    near,
)
from tests.ops.pooling import lay_out


class Transforms(Convolution):
    """What PyTorch makes of the operators."""

    @algorithms
    @pytest.mark.parametrize("layout", ["contiguous", "channels_last", "cropped"])
    @pytest.mark.parametrize("name", ["4x4 s2", "groups"])
    def test_opcheck(self, algorithm: str, layout: str, name: str) -> None:
        case = CASES[name]
        x, w, b = case.tensors(self.transposed, dtype=torch.float32)
        inputs = [t.requires_grad_() for t in (lay_out(x, layout), w, b)]
        activation = "relu" if layout == "contiguous" else "none"
        torch.library.opcheck(self.registered, (*inputs, *self.raw(case, algorithm, activation)))

    def test_opcheck_in_one_dimension_and_without_bias(self) -> None:
        case = Case(2, (2, 3), (1, 9), (1, 3), (1, 2), (0, 1))
        x, w, _ = case.tensors(self.transposed, dtype=torch.float32)
        inputs = x.squeeze(2).requires_grad_(), w.squeeze(2).requires_grad_(), None
        torch.library.opcheck(self.registered, (*inputs, *self.raw(case)))

    @pytest.mark.parametrize("dynamic", [False, True])
    @pytest.mark.parametrize("algorithm", ["auto", "torch"])
    def test_compile(self, dynamic: bool, algorithm: str) -> None:
        case = CASES["5x5 s2"]

        def function(*tensors: Tensor) -> Tensor:
            return self.op(
                *tensors, **case.arguments(self.transposed), activation="leaky_relu", algorithm=algorithm
            ).square()

        backend = "inductor" if dynamic and algorithm == "auto" else "aot_eager"
        compiled = torch.compile(function, fullgraph=True, dynamic=dynamic, backend=backend)
        for batch, size in [(2, (6, 7)), (3, (9, 12)), (1, (6, 8))]:
            changed = dataclasses.replace(case, batch=batch, size=size)
            tensors = [t.requires_grad_() for t in changed.tensors(self.transposed)]
            copies = copy.deepcopy(tensors)
            expected, actual = function(*tensors), compiled(*copies)
            near(actual, expected)
            expected.sum().backward()
            actual.sum().backward()
            for a, e in zip(copies, tensors, strict=True):
                near(a.grad, e.grad)  # type: ignore[arg-type]
        torch._dynamo.reset()

    def test_compile_in_one_dimension_unbatched(self) -> None:
        case = Case(1, (2, 3), (1, 9), (1, 3))
        x, w, b = case.tensors(self.transposed)
        inputs = [t.requires_grad_() for t in (x[0].squeeze(1), w.squeeze(2), b)]
        compiled = torch.compile(self.op_1d, fullgraph=True)
        near(compiled(*inputs), self.op_1d(*inputs))
        for a, e in zip(
            torch.autograd.grad(compiled(*inputs).square().sum(), inputs),
            torch.autograd.grad(self.op_1d(*inputs).square().sum(), inputs),
            strict=True,
        ):
            near(a, e)
        torch._dynamo.reset()

    def test_export(self) -> None:
        op = self.op

        class Module(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight = torch.nn.Parameter(torch.randn(4, 4, 3, 3))

            def forward(self, x: Tensor) -> Tensor:
                return op(x, self.weight, None, 2, 1, activation="relu")

        module = Module()
        sizes = {0: torch.export.Dim("n", max=64), 2: torch.export.Dim("h", min=4, max=512)}
        exported = torch.export.export(module, (torch.randn(2, 4, 8, 8),), dynamic_shapes={"x": sizes})
        x = torch.randn(5, 4, 11, 8)
        assert torch.equal(exported.module()(x), module(x))

    def test_vmap(self) -> None:
        case = CASES["groups"]
        arguments = case.arguments(self.transposed) | {"activation": "sigmoid"}
        tensors = case.tensors(self.transposed)
        for dims in itertools.product((None, 0, 1), (None, 0, 2), (None, 0, 1)):
            if dims == (None, None, None):
                continue
            batched = [
                t if dim is None else torch.stack([t, 2 * t, t - 1], dim)
                for t, dim in zip(tensors, dims, strict=True)
            ]
            mapped = torch.func.vmap(lambda *a: self.op(*a, **arguments), in_dims=dims)(*batched)
            for i in range(3):
                each = [t if d is None else t.select(d, i) for t, d in zip(batched, dims, strict=True)]
                near(mapped[i], self.op(*each, **arguments), factor=10)

    def test_transforms(self) -> None:
        case = dataclasses.replace(CASES["4x4 s2"], channels=(2, 3))
        x, w, b = case.tensors(self.transposed)
        arguments = case.arguments(self.transposed)

        def loss(w: Tensor, b: Tensor, x: Tensor) -> Tensor:
            return self.op(x, w, b, **arguments, activation="tanh").square().sum()

        def torchs_loss(w: Tensor, b: Tensor, x: Tensor) -> Tensor:
            return self.torchs(x, w, b, **arguments, activation="tanh").square().sum()

        gradient = torch.func.grad(loss, argnums=(0, 1, 2))
        expected = torch.func.grad(torchs_loss, argnums=(0, 1, 2))(w, b, x)
        for a, e in zip(gradient(w, b, x), expected, strict=True):
            near(a, e, factor=10)
        compiled = torch.compile(lambda w, b, x: gradient(w, b, x), fullgraph=True)
        for a, e in zip(compiled(w, b, x), expected, strict=True):
            near(a, e, factor=10)
        torch._dynamo.reset()

        samples = torch.stack([x, x.flip(2), 2 * x])
        per_sample = torch.func.vmap(torch.func.grad(loss), in_dims=(None, None, 0))(w, b, samples)
        for a, sample in zip(per_sample, samples, strict=True):
            near(a, torch.func.grad(torchs_loss)(w, b, sample), factor=10)
        ensemble = torch.func.vmap(torch.func.grad(loss), in_dims=(0, None, None))(torch.stack([w, -w]), b, x)
        near(ensemble[1], torch.func.grad(torchs_loss)(-w, b, x), factor=10)

        def second(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
            inner = torch.func.grad(function)
            return torch.func.grad(lambda w: inner(w, b, x).square().sum())

        near(second(loss)(w), second(torchs_loss)(w), factor=100)

    @pytest.mark.parametrize("activation", ACTIVATIONS)
    def test_forward_mode(self, activation: Any) -> None:
        case = dataclasses.replace(CASES["4x4 s2"], channels=(2, 3), size=(3, 4))
        tensors = case.tensors(self.transposed)
        tangents = case.tensors(self.transposed, seed=5)
        arguments = case.arguments(self.transposed) | {"activation": activation}

        def ours(*tensors: Tensor) -> Tensor:
            return self.op(*tensors, **arguments)

        def theirs(*tensors: Tensor) -> Tensor:
            return self.torchs(*tensors, **arguments)

        def dual(function: Callable[..., Tensor], wanted: tuple[bool, ...]) -> Any:
            with forward_ad.dual_level():
                duals = [
                    forward_ad.make_dual(x, t) if flag else x
                    for x, t, flag in zip(tensors, tangents, wanted, strict=True)
                ]
                return forward_ad.unpack_dual(function(*duals))

        for wanted in itertools.product((False, True), repeat=3):
            for grad_mode in (True, False):
                with torch.set_grad_enabled(grad_mode):
                    (y, dy), (expected, expected_dy) = dual(ours, wanted), dual(theirs, wanted)
                near(y, expected, factor=10)
                assert (dy is not None) == any(wanted)
                if dy is not None:
                    near(dy, expected_dy, factor=100)
        leaves = [t.requires_grad_() for t in tensors]
        assert torch.autograd.gradcheck(ours, leaves, check_forward_ad=True, fast_mode=True)
        assert torch.autograd.gradgradcheck(ours, leaves, check_fwd_over_rev=True, fast_mode=True)

    def test_forward_mode_transforms(self) -> None:
        case = dataclasses.replace(CASES["groups"], channels=(1, 2), size=(4, 3), groups=2)
        x, w, b = case.tensors(self.transposed)
        arguments = case.arguments(self.transposed) | {"activation": "sigmoid"}

        def ours(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
            return self.op(x, w, b, **arguments)

        def theirs(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
            return self.torchs(x, w, b, **arguments)

        jacobians = torch.func.jacfwd(ours, (0, 1, 2))(x, w, b)
        for a, e in zip(jacobians, torch.func.jacrev(theirs, (0, 1, 2))(x, w, b), strict=True):
            near(a, e, factor=100)

        def cubed(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
            return lambda x, w, b: function(x, w, b).pow(3).sum()

        hessian = torch.func.hessian(cubed(ours), (0, 1))(x, w, b)
        expected = torch.func.hessian(cubed(theirs), (0, 1))(x, w, b)
        reverse_over_forward = torch.func.jacrev(torch.func.jacfwd(cubed(ours), 1), 0)(x, w, b)
        near(reverse_over_forward, expected[1][0], factor=100)
        for a, e in zip(itertools.chain(*hessian), itertools.chain(*expected), strict=True):
            near(a, e, factor=100)
        with pytest.raises(NotImplementedError, match=r"deconvkit::conv.*do not nest"):
            torch.func.jacfwd(torch.func.jacfwd(cubed(ours)))(x, w, b)

    def test_autocast(self) -> None:
        x, w, b = CASES["3x3"].tensors(self.transposed, dtype=torch.float32)
        for dtype in (torch.bfloat16, torch.float16):
            leaves = [t.requires_grad_() for t in (x, w, b)]
            with torch.autocast("cpu", dtype):
                ours, theirs = self.op(*leaves), self.torchs(*leaves)
                mixed = self.op(x.half(), w, b.bfloat16())
                wide = self.op(x.double(), w.double(), b.double())
                inside = torch.autograd.grad(self.op(*leaves).float().sum(), leaves)
            assert ours.dtype == theirs.dtype == mixed.dtype == dtype
            assert wide.dtype == torch.float64
            near(ours, theirs, factor=2)
            outside = torch.autograd.grad(ours.float().sum(), leaves)
            for a, e in zip(outside, torch.autograd.grad(theirs.float().sum(), leaves), strict=True):
                assert a.dtype == torch.float32
                near(a, e, dtype, factor=2)
            assert all(g.dtype == torch.float32 for g in inside)
        with torch.autocast("cpu", torch.bfloat16):
            compiled = torch.compile(self.op, fullgraph=True)(x, w, b)
        assert compiled.dtype == torch.bfloat16
        torch._dynamo.reset()
        # A backward in a region in which the forward was not.
        for algorithm in ALGORITHMS:
            output = self.op(*leaves, algorithm=algorithm)
            with torch.autocast("cpu", torch.bfloat16):
                grads = torch.autograd.grad(output.sum(), leaves)
            assert all(g.dtype == torch.float32 for g in grads)

    def test_meta(self) -> None:
        x, w, b = (t.to("meta") for t in CASES["5x5 s2"].tensors(self.transposed))
        output = self.op(x, w.requires_grad_(), b, **CASES["5x5 s2"].arguments(self.transposed))
        assert output.is_meta
        assert output.shape[2:] == CASES["5x5 s2"].output_size(self.transposed)
        (grad,) = torch.autograd.grad(output.sum(), w)
        assert grad.is_meta
        assert grad.shape == w.shape

    def test_the_profiler_sees_the_op(self) -> None:
        x, w, _ = CASES["3x3"].tensors(self.transposed)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            self.op(x, w)
        assert self.registered.name() in {event.name for event in profile.events()}
