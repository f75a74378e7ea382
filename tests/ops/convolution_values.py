"""Values, shapes and layouts, alike for both convolutions."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests import reference
from tests.ops.convolution import (
    ACTIVATIONS,
    ALGORITHMS,
    CASES,
    DTYPES,
    LAYOUTS,
    Case,
    Convolution,
    algorithms,
    any_case,
    apply_by_torch,
    cases,
    examples,
    expected_of,
    native_variants,
    near,
    same_layout,
    variants,
    wide,
)
from tests.ops.pooling import lay_out


class Values(Convolution):
    """Against the NumPy reference, against torch, and by finite differences."""

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

    @wide
    @native_variants
    def test_several_blocks(self, isa: str, case: Case, algorithm: str) -> None:
        """Float32 against torch in float64, with the gradients."""
        arguments = case.arguments(self.transposed)
        tensors = [t.requires_grad_() for t in case.tensors(self.transposed)]
        expected = self.torchs(*tensors, **arguments)
        grad = torch.randn_like(expected)
        grads = torch.autograd.grad(expected, tensors, grad)
        leaves = [t.detach().float().requires_grad_() for t in tensors]
        actual = self.op(*leaves, **arguments, algorithm=algorithm)
        near(actual, expected)
        for a, e in zip(torch.autograd.grad(actual, leaves, grad.float()), grads, strict=True):
            near(a, e)

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
        for case in (CASES[name] for name in ("1x1", "2x2 s2", "3x3", "4x4 s2", "groups")):
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
            Case(2, (20, 14), (27, 25), (2, 2), (2, 2)),
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
