from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from deconvkit.ops.conv_weight_grad import ConvWeightGrad
from tests.ops.convolution import CASES, DTYPES, Case, algorithms, cases, expected_of, near, randn, variants
from tests.ops.pooling import lay_out

OP = torch.ops.deconvkit.conv_weight_grad.default


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
