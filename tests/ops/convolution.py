"""What the tests of the convolution family share: cases, and the tests that both convolutions pass alike."""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

import deconvkit
from deconvkit import _C
from tests import reference
from tests.ops.pooling import lay_out

Pair = tuple[int, int]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
ALGORITHMS = ["direct", "winograd", "torch"]
ACTIVATIONS = [None, "relu", "leaky_relu", ("leaky_relu", 0.01), "tanh", "sigmoid"]
LAYOUTS = ["contiguous", "channels_last", "cropped", "strided", "expanded", "offset", "transposed"]
# Of the largest value; sums of up to a few hundred products of standard normals.
TOLERANCE = {torch.float64: 1e-13, torch.float32: 3e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}

examples = settings(
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow],
)
algorithms = pytest.mark.parametrize("algorithm", ALGORITHMS)
# Every algorithm with every instruction set; torch has its own.
variants = pytest.mark.parametrize(
    ("isa", "algorithm"),
    [(isa, algorithm) for isa in _C.available_isas() for algorithm in ("direct", "winograd")]
    + [(_C.available_isas()[0], "torch")],
    indirect=["isa"],
)


def randn(shape: tuple[int, ...], seed: int) -> Tensor:
    """Standard normals in float64 that every dtype holds exactly."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x.bfloat16().double().round(decimals=2).bfloat16().double()


@dataclasses.dataclass(frozen=True)
class Case:
    """A convolution or, by the same numbers, a transposed one: `size` is the input's."""

    batch: int
    channels: Pair  # in and out, of each group
    size: Pair
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    output_padding: Pair = (0, 0)  # of the transposed one
    dilation: Pair = (1, 1)
    groups: int = 1

    def arguments(self, transposed: bool) -> dict[str, Any]:
        """The keyword arguments of ours and of torch's function."""
        names = ["stride", "padding", "dilation", "groups"] + ["output_padding"] * transposed
        return {name: getattr(self, name) for name in names}

    def output_size(self, transposed: bool) -> Pair:
        """Of the output."""

        def axis(i: int) -> int:
            reach = self.dilation[i] * (self.kernel[i] - 1) + 1
            if transposed:
                full = (self.size[i] - 1) * self.stride[i] + reach
                return full - 2 * self.padding[i] + self.output_padding[i]
            return (self.size[i] + 2 * self.padding[i] - reach) // self.stride[i] + 1

        return axis(0), axis(1)

    def shapes(self, transposed: bool) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Of input, weight and bias."""
        c_in, c_out = (c * self.groups for c in self.channels)
        first = (c_in, self.channels[1]) if transposed else (c_out, self.channels[0])
        return (self.batch, c_in, *self.size), (*first, *self.kernel), (c_out,)

    def tensors(self, transposed: bool, seed: int = 0, dtype: torch.dtype = torch.float64) -> list[Tensor]:
        """Input, weight and bias."""
        return [randn(shape, seed + i).to(dtype) for i, shape in enumerate(self.shapes(transposed))]


# Every way through the kernels: phases, whole and partial vectors of channels and pixels, few channels, 1x1,
# Winograd's window (3x3 s1, 4x4 and 5x5 s2) and what lies outside it, groups, depthwise, dilation.
CASES = {
    "1x1": Case(2, (5, 9), (4, 7), (1, 1)),
    "3x3": Case(2, (17, 20), (6, 9), (3, 3), padding=(1, 1)),
    "3x3 few": Case(1, (3, 2), (5, 18), (3, 3), padding=(1, 0)),
    "2x2 s2": Case(2, (6, 5), (4, 6), (2, 2), (2, 2)),
    "4x4 s2": Case(1, (10, 3), (5, 8), (4, 4), (2, 2), (1, 1)),
    "5x5 s2": Case(2, (9, 8), (4, 5), (5, 5), (2, 2), (2, 2), (1, 1)),
    "uneven": Case(1, (4, 3), (6, 7), (3, 2), (2, 3), (1, 0), (1, 0)),
    "dilated": Case(2, (3, 4), (7, 9), (3, 2), (1, 2), (2, 1), (0, 1), (2, 3)),
    "gaps": Case(1, (2, 3), (5, 5), (2, 1), (3, 2), (0, 0), (2, 1)),
    "groups": Case(2, (3, 4), (5, 6), (3, 3), (2, 1), (1, 1), groups=3),
    "depthwise": Case(1, (1, 2), (6, 8), (3, 3), padding=(1, 1), groups=9),
    "8x8 s4": Case(1, (2, 2), (9, 8), (8, 8), (4, 4), (2, 2), groups=2),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


@st.composite
def any_case(draw: st.DrawFn) -> Case:
    def axis() -> tuple[int, ...]:
        kernel, stride, dilation = (draw(st.integers(1, n)) for n in (5, 4, 3))
        reach = dilation * (kernel - 1) + 1
        padding = draw(st.integers(0, min(3, (reach + 1) // 2)))
        size = draw(st.integers(max(1, reach - 2 * padding), max(7, reach)))
        extra = draw(st.integers(0, max(stride, dilation) - 1))
        while (size - 1) * stride - 2 * padding + reach + extra < 1:
            size += 1
        return size, kernel, stride, padding, extra, dilation

    h, w = axis(), axis()
    channels = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    return Case(draw(st.integers(0, 3)), channels, *zip(h, w, strict=True), groups=draw(st.integers(1, 3)))


@functools.cache
def expected_of(case: Case, transposed: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Output before bias and activation, a gradient of it, the gradients of input, weight and bias."""
    x, w, _ = (t.numpy() for t in case.tensors(transposed))
    geometry = case.stride, case.padding, case.dilation, case.groups
    size = case.output_size(transposed)
    forward, back = reference.conv2d, reference.conv_transpose2d
    if transposed:
        forward, back = back, forward
    output = forward(x, w, size, *geometry)
    g = randn(output.shape, 9).numpy()
    small, large = (x, g) if transposed else (g, x)
    results = (
        output,
        g,
        back(g, w, case.size, *geometry),
        reference.conv_weight_grad(small, large, case.kernel, *geometry),
        g.sum((0, 2, 3)),
    )
    return tuple(torch.from_numpy(r) for r in results)  # type: ignore[return-value]


def near(actual: Tensor, expected: Tensor, dtype: torch.dtype | None = None, factor: float = 1) -> None:
    """Assert that two tensors agree to the dtype's tolerance of the largest value."""
    assert actual.shape == expected.shape
    if actual.numel():
        tolerance = factor * TOLERANCE[dtype or actual.dtype] * max(expected.abs().max().item(), 1)
        torch.testing.assert_close(actual.double(), expected.double(), rtol=0, atol=tolerance)


def same_layout(a: Tensor, b: Tensor) -> bool:
    """Whether the strides that matter agree: an empty tensor has none, nor has a dimension of size 1."""
    strides = zip(a.stride(), b.stride(), b.shape, strict=True)
    return not b.numel() or all(i == j for i, j, size in strides if size > 1)


def apply_by_torch(output: Tensor, activation: Any) -> Tensor:
    """The activation, by torch."""
    name, slope = activation if isinstance(activation, tuple) else (activation, 0.2)
    if name == "leaky_relu":
        return F.leaky_relu(output, slope)
    return output if name is None else getattr(torch, name)(output)


class ConvolutionTests:
    """The tests that both operators pass; a subclass names them."""

    transposed: bool

    @property
    def op(self) -> Callable[..., Tensor]:
        return deconvkit.conv_transpose2d if self.transposed else deconvkit.conv2d

    @property
    def op_1d(self) -> Callable[..., Tensor]:
        return deconvkit.conv_transpose1d if self.transposed else deconvkit.conv1d

    @property
    def registered(self) -> Any:
        ops = torch.ops.deconvkit
        return (ops.conv_transpose2d if self.transposed else ops.conv2d).default

    def torchs(self, *args: Any, activation: Any = None, **kwargs: Any) -> Tensor:
        """torch's own, with the activation."""
        one = args[1].dim() == 3
        function = (
            (F.conv_transpose1d if one else F.conv_transpose2d)
            if self.transposed
            else (F.conv1d if one else F.conv2d)
        )
        return apply_by_torch(function(*args, **kwargs), activation)

    def raw(self, case: Case, algorithm: str = "auto", activation: str = "none") -> tuple[Any, ...]:
        """The registered op's arguments after the tensors."""
        size = case.output_size(self.transposed)
        return case.stride, case.padding, case.dilation, size, case.groups, activation, 0.0, algorithm

    # ---- values ----

    @cases
    @variants
    @pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
    def test_reference(self, isa: str, case: Case, algorithm: str, layout: str) -> None:
        arguments = case.arguments(self.transposed)
        output, grad, *grads = expected_of(case, self.transposed)
        tensors = case.tensors(self.transposed)
        for dtype in DTYPES:
            x, w, b = (t.to(dtype) for t in tensors)
            x, w = lay_out(x, layout).requires_grad_(), lay_out(w, layout).requires_grad_()
            b.requires_grad_()
            result = self.op(x, w, b, **arguments, algorithm=algorithm)
            assert result.dtype == dtype
            factor = 1 if algorithm == "direct" else 4  # torch rounds sums of half precision more than once
            near(result, output + tensors[2][:, None, None], factor=factor)
            results = torch.autograd.grad(result, (x, w, b), grad.to(dtype))
            for actual, expected in zip(results, grads, strict=True):
                assert actual.dtype == dtype
                near(actual, expected, factor=factor)

    @variants
    @pytest.mark.parametrize("activation", ACTIVATIONS)
    def test_activations(self, isa: str, algorithm: str, activation: Any) -> None:
        for case in (CASES["5x5 s2"], CASES["depthwise"]):
            output = expected_of(case, self.transposed)[0]
            tensors = case.tensors(self.transposed)
            plain = (output + tensors[2][:, None, None]).numpy()
            expected = torch.from_numpy(reference.activate(plain, activation))
            for dtype in DTYPES:
                x, w, b = (t.to(dtype) for t in tensors)
                arguments = case.arguments(self.transposed)
                near(
                    self.op(x, w, b, **arguments, activation=activation, algorithm=algorithm),
                    expected,
                    factor=8,  # of the values before a tanh or a sigmoid
                )

    @variants
    def test_infinities_and_nans_pass_the_activations(self, isa: str, algorithm: str) -> None:
        x = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0, 500, -500]).view(1, 1, 1, 6)
        w = torch.ones(1, 1, 1, 1)
        for activation in ACTIVATIONS:
            actual = self.op(x, w, activation=activation, algorithm=algorithm)
            torch.testing.assert_close(actual, apply_by_torch(x, activation), equal_nan=True)

    @examples
    @given(
        any_case(),
        st.sampled_from(ACTIVATIONS),
        st.booleans(),
        st.sampled_from(["auto", *ALGORITHMS]),
        st.sampled_from(LAYOUTS),
        st.sampled_from(LAYOUTS),
        st.sampled_from([torch.float64, torch.float32]),
    )
    def test_torch(
        self,
        case: Case,
        activation: Any,
        biased: bool,
        algorithm: str,
        layout: str,
        weight_layout: str,
        dtype: torch.dtype,
    ) -> None:
        """Forward, backward and double backward against torch."""
        x, w, b = case.tensors(self.transposed, dtype=dtype)
        leaves = [lay_out(x, layout), lay_out(w, weight_layout), *[b] * biased]
        arguments = case.arguments(self.transposed)

        def run(function: Callable[..., Tensor], **extra: Any) -> tuple[Tensor, ...]:
            inputs = [t.detach().requires_grad_() for t in leaves]
            output = function(*inputs, **arguments, activation=activation, **extra)
            # Odd functions: no gradient is zero, no second derivative either.
            grads = torch.autograd.grad((output + output**3 / 8).sum(), inputs, create_graph=True)
            seconds = torch.autograd.grad(
                sum((g + g**2).sum() for g in grads), inputs, materialize_grads=True
            )
            return output, *grads, *seconds

        ours, theirs = run(self.op, algorithm=algorithm), run(self.torchs)
        assert same_layout(ours[0], theirs[0])
        for actual, expected in zip(ours, theirs, strict=True):
            near(actual, expected, dtype, factor=100)

    @algorithms
    @pytest.mark.parametrize("activation", ACTIVATIONS)
    @pytest.mark.parametrize("name", ["5x5 s2", "dilated", "groups", "gaps"])
    def test_gradcheck(self, algorithm: str, activation: Any, name: str) -> None:
        case = dataclasses.replace(CASES[name], batch=1, channels=(2, 1), size=(4, 5))
        tensors = [t.requires_grad_() for t in case.tensors(self.transposed)]

        def function(*tensors: Tensor) -> Tensor:
            return self.op(
                *tensors, **case.arguments(self.transposed), activation=activation, algorithm=algorithm
            )

        assert torch.autograd.gradcheck(function, tensors, fast_mode=True)
        assert torch.autograd.gradgradcheck(function, tensors, fast_mode=True)

    def test_only_the_wanted_gradients_are_computed_and_kept(self) -> None:
        case = CASES["4x4 s2"]
        for wanted in itertools.product((False, True), repeat=3):
            tensors = [
                t.requires_grad_(flag) for t, flag in zip(case.tensors(self.transposed), wanted, strict=True)
            ]
            output = self.op(*tensors, **case.arguments(self.transposed))
            assert output.requires_grad == any(wanted)
            if not any(wanted):
                continue
            saved = output.grad_fn.saved_tensors  # type: ignore[union-attr]
            assert (saved[0] is None) == (not wanted[1])  # an input that no gradient reads is not kept
            asked = [t for t, flag in zip(tensors, wanted, strict=True) if flag]
            expected = torch.autograd.grad(
                self.torchs(*tensors, **case.arguments(self.transposed)).sum(), asked
            )
            for a, b in zip(torch.autograd.grad(output.sum(), asked), expected, strict=True):
                near(a, b, factor=10)

    def test_the_bias_gradient_is_accumulated_in_float32(self) -> None:
        x = torch.zeros(1, 1, 64, 64, dtype=torch.bfloat16)
        b = torch.zeros(1, dtype=torch.bfloat16, requires_grad=True)
        output = self.op(x, torch.ones(1, 1, 1, 1, dtype=torch.bfloat16), b)
        (grad,) = torch.autograd.grad(output, b, torch.ones_like(output))
        assert grad.item() == 4096

    # ---- shapes and layouts ----

    @algorithms
    def test_strides_are_torchs(self, algorithm: str) -> None:
        for case, dtype in itertools.product(
            [*CASES.values(), Case(2, (1, 1), (4, 4), (3, 3)), Case(2, (4, 4), (3, 3), (3, 3))], DTYPES[:2]
        ):
            x, w, _ = case.tensors(self.transposed, dtype=dtype)
            formats = [torch.contiguous_format, torch.channels_last]
            for a, b in itertools.product(formats, formats):
                inputs = [x.contiguous(memory_format=a), w.contiguous(memory_format=b)]
                ours = self.op(*inputs, **case.arguments(self.transposed), algorithm=algorithm)
                theirs = self.torchs(*inputs, **case.arguments(self.transposed))
                assert ours.stride() == theirs.stride()
                meta = self.op(
                    *(t.to("meta") for t in inputs), **case.arguments(self.transposed), algorithm=algorithm
                )
                assert meta.stride() == theirs.stride()

    def test_gradients_have_their_tensors_layout(self) -> None:
        for layout in ("contiguous", "channels_last"):
            x, w, _ = CASES["3x3"].tensors(self.transposed)
            x, w = lay_out(x, layout).requires_grad_(), lay_out(w, layout).requires_grad_()
            for tensor, grad in zip((x, w), torch.autograd.grad(self.op(x, w).sum(), (x, w)), strict=True):
                assert grad.stride() == tensor.stride()

    @variants
    def test_one_dimension(self, isa: str, algorithm: str) -> None:
        for k, s, p, d, groups in [
            (3, 1, 1, 1, 1),
            (4, 2, 1, 1, 1),
            (16, 8, 4, 1, 1),
            (5, 3, 0, 2, 2),
            (1, 1, 0, 1, 4),
        ]:
            arguments: dict[str, Any] = {"stride": s, "padding": (p,), "dilation": d, "groups": groups}
            if self.transposed:
                arguments["output_padding"] = max(s, d) - 1
            case = Case(2, (3, 5), (1, 40), (1, k), groups=groups)
            x, w, b = case.tensors(self.transposed)
            x, w = x.squeeze(2), w.squeeze(2)
            for inputs in (
                (x, w, b),
                (x[0], w, b),
                (x[:0], w, b),
                (x.transpose(1, 2).contiguous().transpose(1, 2), w, None),
                (x, w.transpose(1, 2).contiguous().transpose(1, 2), None),
            ):
                leaves = [t.requires_grad_() for t in inputs if t is not None]
                ours = self.op_1d(*inputs, **arguments, activation="tanh", algorithm=algorithm)
                theirs = self.torchs(*inputs, **arguments, activation="tanh")
                assert ours.stride() == theirs.stride()
                near(ours, theirs, factor=100)
                grad = torch.randn_like(theirs)
                for a, e in zip(
                    torch.autograd.grad(ours, leaves, grad),
                    torch.autograd.grad(theirs, leaves, grad),
                    strict=True,
                ):
                    near(a, e, factor=100)

    @variants
    def test_unbatched_and_zero_batch(self, isa: str, algorithm: str) -> None:
        case = CASES["5x5 s2"]
        arguments = case.arguments(self.transposed)
        for layout in ("contiguous", "channels_last"):
            x, w, b = case.tensors(self.transposed)
            x = lay_out(x, layout)
            for part in (x[0], x[:0]):
                leaves = [t.detach().requires_grad_() for t in (part, w, b)]
                ours = self.op(*leaves, **arguments, algorithm=algorithm)
                theirs = self.torchs(*leaves, **arguments)
                assert ours.stride() == theirs.stride()
                near(ours, theirs, factor=10)
                for a, e in zip(
                    torch.autograd.grad(ours.sum(), leaves),
                    torch.autograd.grad(theirs.sum(), leaves),
                    strict=True,
                ):
                    near(a, e, factor=10)

    @pytest.mark.parametrize("layout", LAYOUTS)
    @variants
    def test_layouts(self, isa: str, layout: str, algorithm: str) -> None:
        for case in (CASES["3x3"], CASES["4x4 s2"], CASES["groups"]):
            x, w, b = case.tensors(self.transposed)
            x, w = lay_out(x, layout), lay_out(w, layout)
            arguments = case.arguments(self.transposed)
            expected = self.torchs(x, w, b, **arguments)
            near(self.op(x, w, b, **arguments, algorithm=algorithm), expected, factor=10)
            near(
                self.op(x, w, b.repeat_interleave(2)[::2], **arguments, algorithm=algorithm),
                expected,
                factor=10,
            )

    def test_negated_views_and_subclasses_are_resolved(self) -> None:
        case = CASES["3x3"]
        x, w, b = case.tensors(self.transposed)
        negated = torch.complex(torch.zeros_like(x), -x).conj().imag
        assert negated.is_neg()
        near(self.op(negated, w, b), self.torchs(x, w, b))
        negated = torch.complex(torch.zeros_like(w), -w).conj().imag
        near(self.op(x, negated, b), self.torchs(x, w, b))

        class Sub(torch.Tensor):
            pass

        output = self.op(x.as_subclass(Sub), w, b)
        near(output.as_subclass(torch.Tensor), self.torchs(x, w, b))

    @pytest.mark.parametrize("algorithm", ["direct", "winograd"])
    def test_the_bits_do_not_depend_on_the_number_of_threads(self, isa: str, algorithm: str) -> None:
        threads = torch.get_num_threads()
        for case in (
            Case(3, (20, 24), (9, 17), (3, 3), padding=(1, 1)),
            Case(2, (16, 3), (12, 12), (4, 4), (2, 2), (1, 1)),
            Case(1, (1, 1), (9, 33), (3, 3), groups=5),
        ):
            results = []
            try:
                for count in (1, 2, 3):
                    torch.set_num_threads(count)
                    tensors = [t.requires_grad_() for t in case.tensors(self.transposed, dtype=torch.float32)]
                    output = self.op(
                        *tensors, **case.arguments(self.transposed), activation="tanh", algorithm=algorithm
                    )
                    results.append((output, *torch.autograd.grad(output, tensors[:2], output.cos())))
            finally:
                torch.set_num_threads(threads)
            for other in results[1:]:
                for a, b in zip(results[0], other, strict=True):
                    assert torch.equal(a, b)

    # ---- torch.library, transforms, compile ----

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

    # ---- errors ----

    def bad_arguments(self) -> list[tuple[type[Exception], str, Callable[[], Any]]]:
        """What both refuse."""
        op, one = self.op, self.op_1d
        x, w, b = torch.zeros(2, 4, 6, 7), torch.zeros(4, 4, 3, 3), torch.zeros(4)
        return [
            (TypeError, "input: expected a torch.Tensor, got list", lambda: op([1.0], w)),
            (TypeError, "weight: expected a torch.Tensor, got NoneType", lambda: op(x, None)),
            (TypeError, "bias: expected a torch.Tensor, got float", lambda: op(x, w, 1.0)),
            (TypeError, "input: expected float32", lambda: op(x.int(), w.int())),
            (TypeError, "input: expected float32", lambda: op(x.to(torch.complex64), w.to(torch.complex64))),
            (TypeError, "input: expected float32", lambda: op(x.bool(), w)),
            (TypeError, "weight: expected input's dtype", lambda: op(x, w.double())),
            (TypeError, "bias: expected input's dtype", lambda: op(x, w, b.half())),
            (ValueError, "weight: expected input's device", lambda: op(x, w.to("meta"))),
            (ValueError, "bias: expected input's device", lambda: op(x, w, b.to("meta"))),
            (ValueError, r"input: expected shape \(N, C_in, H, W\)", lambda: op(x[None], w)),
            (ValueError, r"input: expected shape \(N, C_in, H, W\)", lambda: op(x[0, 0], w)),
            (ValueError, r"input: expected shape \(N, C_in, L\)", lambda: one(x, w[0])),
            (ValueError, r"weight: expected shape .*KH, KW", lambda: op(x, w[0])),
            (ValueError, r"weight: expected shape .*, K\)", lambda: one(x[0], w)),
            (ValueError, "weight: expected every size >= 1", lambda: op(x, w[:, :, :0])),
            (ValueError, "weight: expected every size >= 1", lambda: op(x[:, :0], w[:0])),
            (ValueError, "weight: expected every size >= 1", lambda: op(x[:, :0], w[:, :0])),
            (ValueError, "input: expected every size but the batch", lambda: op(x[:, :, :0], w)),
            (ValueError, "input: expected every size but the batch", lambda: op(x[:0, :, :, :0], w)),
            (ValueError, "input: expected every size but the batch", lambda: op(x[:, :0], w)),
            (ValueError, "input: expected 4 channels", lambda: op(x[:, :3], w)),
            (ValueError, "input: expected .* channels", lambda: op(torch.zeros(2, 6, 6, 7), w, groups=2)),
            (ValueError, "groups: expected a divisor", lambda: op(x, w, groups=3)),
            (ValueError, "groups: expected", lambda: op(x, w, groups=0)),
            (ValueError, "groups: expected", lambda: op(x, w, groups=-1)),
            (TypeError, "groups: expected", lambda: op(x, w, groups=2.0)),
            (ValueError, r"bias: expected shape \(4,\)", lambda: op(x, w, b[:3])),
            (ValueError, r"bias: expected shape \(4,\)", lambda: op(x, w, b[None])),
            (ValueError, "stride: expected", lambda: op(x, w, stride=0)),
            (ValueError, "stride: expected", lambda: op(x, w, stride=(1, -1))),
            (ValueError, "stride: expected", lambda: op(x, w, stride=[1, 1, 1])),
            (ValueError, "stride: expected", lambda: op(x, w, stride=2**31)),
            (TypeError, "stride: expected", lambda: op(x, w, stride=1.5)),
            (TypeError, "stride: expected", lambda: op(x, w, stride=None)),
            (ValueError, "padding: expected", lambda: op(x, w, padding=-1)),
            (ValueError, "padding: expected", lambda: op(x, w, padding=(0, 0.5))),
            (ValueError, "padding: expected", lambda: op(x, w, padding=2**70)),
            (ValueError, "padding: expected", lambda: one(x[:, :, 0], w[:, :, 0], padding=(1, 1))),
            (ValueError, "dilation: expected", lambda: op(x, w, dilation=0)),
            (ValueError, "dilation: expected", lambda: op(x, w, dilation=(-2, 1))),
            (ValueError, "activation: expected None", lambda: op(x, w, activation="gelu")),
            (ValueError, "activation: expected None", lambda: op(x, w, activation=["relu"])),
            (ValueError, "activation: expected None", lambda: op(x, w, activation=("relu", 0.1))),
            (ValueError, "activation: .*slope", lambda: op(x, w, activation=("leaky_relu", -0.1))),
            (ValueError, "activation: .*slope", lambda: op(x, w, activation=("leaky_relu", torch.inf))),
            (ValueError, "activation: .*slope", lambda: op(x, w, activation=("leaky_relu", torch.nan))),
            (ValueError, "activation: .*slope", lambda: op(x, w, activation=("leaky_relu", "a"))),
            (ValueError, "algorithm: expected one of 'auto'", lambda: op(x, w, algorithm="fft")),
            (ValueError, "algorithm: expected one of 'auto'", lambda: op(x, w, algorithm=None)),
        ]

    def check_errors(self, calls: list[tuple[type[Exception], str, Callable[[], Any]]]) -> None:
        for error, words, call in calls:
            for _ in range(2):  # nothing wrong is remembered
                with pytest.raises(error, match=rf"^conv(_transpose)?[12]d: {words}"):
                    call()

    def test_bad_arguments(self) -> None:
        self.check_errors(self.bad_arguments())
