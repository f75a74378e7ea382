from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import deconvkit
from deconvkit.ops.conv_weight_grad import ConvWeightBiasGrad, ConvWeightGrad
from tests.ops.convolution import CASES, DTYPES, Case, algorithms, cases, expected_of, near, randn, variants
from tests.ops.pooling import lay_out

OP = torch.ops.deconvkit.conv_weight_grad.default
BOTH = torch.ops.deconvkit.conv_weight_bias_grad.default


def arguments_of(case: Case, algorithm: str = "auto", channels_last: bool = False) -> tuple[object, ...]:
    """Of the op, after the tensors."""
    return (
        case.kernel, case.stride, case.padding, case.dilation, case.groups, channels_last, algorithm
    )  # fmt: skip


def sides(case: Case) -> tuple[Tensor, Tensor, Tensor]:
    """small and large of a convolution, and the reference's gradient."""
    _, grad, _, grad_weight, _ = expected_of(case, False)
    return grad, case.tensors(False)[0], grad_weight


@cases
@variants
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "cropped", "expanded", "transposed"])
def test_reference(isa: str, case: Case, algorithm: str, layout: str) -> None:
    small, large, expected = sides(case)
    for dtype, channels_last in itertools.product(DTYPES, (False, True)):
        a, b = small.to(dtype), lay_out(large.to(dtype), layout)
        if layout == "expanded":
            small_grad = OP(a, b.contiguous(), *arguments_of(case, algorithm))
            near(OP(a, b, *arguments_of(case, algorithm, channels_last)), small_grad)
            continue
        result = OP(lay_out(a, layout), b, *arguments_of(case, algorithm, channels_last))
        assert result.dtype == dtype
        near(result, expected, factor=1 if algorithm == "direct" else 4)
        if channels_last and case.kernel != (1, 1):
            assert result.is_contiguous(memory_format=torch.channels_last)
        elif not channels_last:
            assert result.is_contiguous()


@algorithms
def test_sums_of_half_precision_are_accumulated_in_float32(algorithm: str) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        ones = torch.ones(4, 1, 40, 40, dtype=dtype)
        case = Case(4, (1, 1), (40, 40), (1, 1))
        assert OP(ones, ones, *arguments_of(case, algorithm)).item() == 6400


@algorithms
@pytest.mark.parametrize("name", ["5x5 s2", "dilated", "groups"])
def test_gradcheck(algorithm: str, name: str) -> None:
    small, large, _ = sides(CASES[name])
    inputs = small[:1].requires_grad_(), large[:1].requires_grad_()

    def function(small: Tensor, large: Tensor) -> Tensor:
        return ConvWeightGrad.call(small, large, *arguments_of(CASES[name], algorithm))

    assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


@algorithms
def test_zero_batch(isa: str, algorithm: str) -> None:
    small, large, expected = sides(CASES["4x4 s2"])
    result = OP(small[:0], large[:0], *arguments_of(CASES["4x4 s2"], algorithm))
    assert torch.equal(result, torch.zeros_like(expected))


@algorithms
@pytest.mark.parametrize("name", ["4x4 s2", "groups"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_opcheck(algorithm: str, name: str, channels_last: bool) -> None:
    small, large, _ = sides(CASES[name])
    inputs = small.float().requires_grad_(), large.float().requires_grad_()
    torch.library.opcheck(OP, (*inputs, *arguments_of(CASES[name], algorithm, channels_last)))


@algorithms
@pytest.mark.parametrize("channels_last", [False, True])
def test_opcheck_in_one_dimension(algorithm: str, channels_last: bool) -> None:
    case = Case(2, (3, 4), (1, 12), (1, 3), (1, 2), (0, 1))
    small, large = randn((2, 4, 6), 0).float(), randn((2, 3, 12), 1).float()
    torch.library.opcheck(OP, (small, large, *arguments_of(case, algorithm, channels_last)))
    flat = OP(small, large, *arguments_of(case, algorithm))
    near(flat, OP(small.unsqueeze(2), large.unsqueeze(2), *arguments_of(case, algorithm)).squeeze(2))


def test_vmap() -> None:
    case = CASES["groups"]
    small, large, _ = sides(case)
    for dims in [(0, 0), (1, None), (None, 2)]:
        batched = [
            t if dim is None else torch.stack([t, 2 * t, t - 1], dim)
            for t, dim in zip((small, large), dims, strict=True)
        ]
        mapped = torch.func.vmap(lambda a, b: OP(a, b, *arguments_of(case)), in_dims=dims)(*batched)
        for i in range(3):
            each = [t if d is None else t.select(d, i) for t, d in zip(batched, dims, strict=True)]
            near(mapped[i], OP(*each, *arguments_of(case)))


@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
def test_the_bits_do_not_depend_on_the_number_of_threads(isa: str, algorithm: str) -> None:
    threads = torch.get_num_threads()
    for case in (
        Case(5, (20, 24), (19, 17), (3, 3), padding=(1, 1)),
        Case(3, (3, 16), (24, 24), (4, 4), (2, 2), (1, 1)),
        Case(2, (1, 1), (9, 33), (3, 3), groups=5),
        Case(1, (1, 1), (64, 64), (1, 1)),
    ):
        large = randn(case.shapes(False)[0], 0).float()
        small = randn((case.batch, case.channels[1] * case.groups, *case.output_size(False)), 1).float()
        results = []
        try:
            for count in (1, 2, 3):
                torch.set_num_threads(count)
                results.append(OP(small, large, *arguments_of(case, algorithm)))
        finally:
            torch.set_num_threads(threads)
        assert torch.equal(results[0], results[1])
        assert torch.equal(results[0], results[2])


# ---- with the bias's gradient ----

of_either = pytest.mark.parametrize("bias_of_large", [False, True], ids=["small", "large"])


def both(case: Case, algorithm: str = "auto", bias_of_large: bool = False) -> tuple[object, ...]:
    """Of conv_weight_bias_grad, after the tensors."""
    *rest, algorithm_ = arguments_of(case, algorithm)
    return *rest, bias_of_large, algorithm_


@cases
@of_either
@pytest.mark.parametrize("algorithm", ["direct", "winograd", "implicit_gemm", "torch", "auto"])
def test_both_are_the_weight_gradient_and_a_sum(case: Case, algorithm: str, bias_of_large: bool) -> None:
    small, large, expected = sides(case)
    for dtype in DTYPES:
        a, b = small.to(dtype), large.to(dtype)
        grad_weight, grad_bias = BOTH(a, b, *both(case, algorithm, bias_of_large))
        near(grad_weight, expected, factor=4)
        near(grad_bias, (large if bias_of_large else small).sum((0, 2, 3)), factor=4)
        assert grad_weight.dtype == grad_bias.dtype == dtype


@of_either
@pytest.mark.parametrize("name", ["5x5 s2", "groups"])
def test_both_gradcheck(name: str, bias_of_large: bool) -> None:
    small, large, _ = sides(CASES[name])
    inputs = small[:1].requires_grad_(), large[:1].requires_grad_()

    def function(small: Tensor, large: Tensor) -> Tensor:
        return ConvWeightBiasGrad.call(small, large, *both(CASES[name], "implicit_gemm", bias_of_large))

    assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)
    assert torch.autograd.gradcheck(
        function, inputs, fast_mode=True, check_forward_ad=True, check_backward_ad=False
    )


@of_either
@pytest.mark.parametrize("dims", [2, 1])
def test_both_opcheck(dims: int, bias_of_large: bool) -> None:
    case = CASES["4x4 s2"] if dims == 2 else Case(2, (3, 4), (1, 12), (1, 3), (1, 2), (0, 1))
    small, large, _ = sides(case)
    inputs = [(t if dims == 2 else t.squeeze(2)).float().requires_grad_() for t in (small, large)]
    torch.library.opcheck(BOTH, (*inputs, *both(case, "implicit_gemm", bias_of_large)))


@of_either
def test_both_vmap(bias_of_large: bool) -> None:
    case = CASES["groups"]
    small, large, _ = sides(case)
    arguments = both(case, "implicit_gemm", bias_of_large)
    for dims in [(0, 0), (1, None), (None, 2)]:
        batched = [
            t if dim is None else torch.stack([t, 2 * t, t - 1], dim)
            for t, dim in zip((small, large), dims, strict=True)
        ]
        mapped = torch.func.vmap(lambda a, b: BOTH(a, b, *arguments), in_dims=dims)(*batched)
        for i in range(3):
            each = [t if d is None else t.select(d, i) for t, d in zip(batched, dims, strict=True)]
            for got, expected in zip(mapped, BOTH(*each, *arguments), strict=True):
                near(got[i], expected)


class Calls(TorchDispatchMode):
    """Notes which ops run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("transposed", [False, True])
def test_backward_takes_both_from_one_op(transposed: bool) -> None:
    case = CASES["4x4 s2"]
    tensors = [t.requires_grad_() for t in case.tensors(transposed)]
    function = deconvkit.conv_transpose2d if transposed else deconvkit.conv2d
    for algorithm, count in (("implicit_gemm", 1), ("direct", 0)):
        output = function(*tensors, algorithm=algorithm, **case.arguments(transposed))
        with Calls() as calls:
            got = torch.autograd.grad(output, tensors, torch.ones_like(output))
        assert calls.names.count("deconvkit::conv_weight_bias_grad") == count
        near(got[2], output.new_full(got[2].shape, output.numel() / output.shape[1]))


@pytest.mark.parametrize("transposed", [False, True])
def test_backward_by_tensor_cores_is_differentiable_and_compiles(transposed: bool) -> None:
    case = CASES["groups"]
    tensors = [
        t[:1].requires_grad_() if t.dim() > 1 else t.requires_grad_() for t in case.tensors(transposed)
    ]
    tensors[1] = case.tensors(transposed)[1].requires_grad_()
    op = deconvkit.conv_transpose2d if transposed else deconvkit.conv2d

    def function(*operands: Tensor) -> Tensor:
        return op(*operands, algorithm="implicit_gemm", activation="tanh", **case.arguments(transposed))

    assert torch.autograd.gradgradcheck(function, tensors, fast_mode=True)
    compiled = torch.compile(lambda *t: function(*t).square().sum(), fullgraph=True, backend="aot_eager")
    grads = torch.autograd.grad(compiled(*tensors), tensors)
    for a, b in zip(grads, torch.autograd.grad(function(*tensors).square().sum(), tensors), strict=True):
        near(a, b)
    transform = torch.func.grad(lambda *t: function(*t).square().sum(), argnums=(0, 1, 2))
    for a, b in zip(grads, transform(*(t.detach() for t in tensors)), strict=True):
        near(a, b)
