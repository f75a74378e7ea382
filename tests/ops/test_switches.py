from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from deconvkit import indices_to_switches, max_pool2d_with_switches, switches_to_indices
from tests import reference
from tests.ops.pooling import (
    LAYOUTS,
    Windows,
    examples,
    lay_out,
    random_switches,
    reference_switches,
    seeds,
    tied,
    windows,
)

OPS = torch.ops.deconvkit


def expected_indices(switches: torch.Tensor, w: Windows) -> torch.Tensor:
    """Cell by cell; -1 without one."""
    numbers = reference_switches(switches)
    indices = torch.full(switches.shape, -1)
    for i in itertools.product(*map(range, numbers.shape)):
        for at, row, column in reference.window(*i[-2:], w.size, *w.geometry):
            if at == numbers[i]:
                indices[i] = row * w.size[1] + column
    return indices


@examples
@given(windows(), st.integers(0, 2), st.integers(1, 5), seeds, st.sampled_from(LAYOUTS))
def test_there_and_back(w: Windows, n: int, c: int, seed: int, layout: str) -> None:
    switches = lay_out(random_switches(w, n, c, seed), layout)
    indices = switches_to_indices(switches, w.size, *w.geometry)
    assert torch.equal(indices, expected_indices(switches, w))
    back = indices_to_switches(indices, w.size, *w.geometry)
    assert back.dtype == w.dtype
    assert torch.equal(back, switches)


@examples
@given(windows(torch_padding=True), seeds)
def test_torchs_indices_become_our_switches(w: Windows, seed: int) -> None:
    x = tied((2, 3, *w.size), seed)
    _, indices = F.max_pool2d(x, *w.geometry, w.ceil_mode, return_indices=True)
    _, switches = max_pool2d_with_switches(x, *w.geometry, w.ceil_mode)
    assert torch.equal(indices_to_switches(indices, w.size, *w.geometry), switches)


def test_one_dimension_and_unbatched() -> None:
    x = torch.randn(2, 3, 17)
    for k, s, p, d in [(3, 2, 1, 1), (2, None, 0, 3), (300, 1, 150, 1)]:
        x = torch.randn(2, 3, 17 if k < 17 else 400)
        _, indices = F.max_pool1d(x, k, s, p, d, return_indices=True)
        length = x.shape[-1]
        switches = indices_to_switches(indices, length, k, s, p, d)
        assert switches.dtype == (torch.uint8 if k <= 255 else torch.int32)
        for size in (length, (length,), [length]):
            assert torch.equal(switches_to_indices(switches, size, k, s, p, d), indices)
        assert torch.equal(switches_to_indices(switches[0], length, k, s, p, d), indices[0])
    switches = random_switches(Windows((8, 9), (2, 2), (2, 2)), 2, 3)
    indices = switches_to_indices(switches, (8, 9), 2)
    assert torch.equal(switches_to_indices(switches[1], (8, 9), 2), indices[1])
    assert torch.equal(indices_to_switches(indices[1], (8, 9), 2), switches[1])


def test_library_compile_and_vmap() -> None:
    w = Windows((6, 9), (3, 2), (2, 2), (1, 0))
    switches = random_switches(w, 2, 3)
    indices = switches_to_indices(switches, w.size, *w.geometry)
    torch.library.opcheck(OPS.switches_to_indices.default, (switches, w.size, *w.geometry))
    torch.library.opcheck(OPS.indices_to_switches.default, (indices, w.size, *w.geometry))

    def there_and_back(switches: torch.Tensor) -> torch.Tensor:
        return indices_to_switches(switches_to_indices(switches, w.size, *w.geometry), w.size, *w.geometry)

    compiled = torch.compile(there_and_back, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(switches), switches)
    torch._dynamo.reset()
    assert torch.equal(torch.func.vmap(there_and_back)(switches), switches)
    assert torch.equal(torch.func.vmap(there_and_back, in_dims=1, out_dims=1)(switches), switches)
    assert switches_to_indices(switches.to("meta"), w.size, *w.geometry).dtype == torch.int64


S = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
INDICES = torch.zeros(2, 3, 4, 4, dtype=torch.int64)


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (TypeError, "switches: expected a torch.Tensor", lambda: switches_to_indices([0], (8, 8), 2)),
        (TypeError, "switches: expected uint8", lambda: switches_to_indices(INDICES, (8, 8), 2)),
        (TypeError, "switches: expected int32", lambda: switches_to_indices(S, (64, 64), 16)),
        (ValueError, "switches: expected shape", lambda: switches_to_indices(S[0, 0], (8, 8), 2)),
        (ValueError, "input_size: expected a", lambda: switches_to_indices(S, (10, 8), 2)),
        (ValueError, "input_size: expected the spatial", lambda: switches_to_indices(S, (2, 3, 8, 8), 2)),
        (ValueError, "input_size: expected", lambda: switches_to_indices(S, (0, 8), 2)),
        (ValueError, "kernel_size: expected", lambda: switches_to_indices(S, (8, 8), 0)),
        (ValueError, "stride: expected", lambda: switches_to_indices(S, (8, 8), 2, 0)),
        (ValueError, "padding: expected at most", lambda: switches_to_indices(S, (8, 8), 2, 2, 2)),
        (ValueError, "switches: expected offsets inside", lambda: switches_to_indices(S + 4, (8, 8), 2)),
        (ValueError, "switches: expected offsets inside", lambda: switches_to_indices(S, (7, 7), 3, 2, 1)),
        (TypeError, "indices: expected a torch.Tensor", lambda: indices_to_switches(None, (8, 8), 2)),
        (TypeError, "indices: expected int64", lambda: indices_to_switches(S, (8, 8), 2)),
        (ValueError, "indices: expected shape", lambda: indices_to_switches(INDICES[0, 0], (8, 8), 2)),
        (ValueError, "input_size: expected a", lambda: indices_to_switches(INDICES, (8, 10), 2)),
        (ValueError, "indices: expected flat positions", lambda: indices_to_switches(INDICES, (8, 8), 2)),
        (ValueError, "indices: expected flat positions", lambda: indices_to_switches(INDICES - 2, (8, 8), 2)),
        (
            ValueError,
            "indices: expected flat positions",
            lambda: indices_to_switches(INDICES + 2**40, (8, 8), 2),
        ),
    ],
)
def test_bad_arguments(error: type[Exception], words: str, call: Any) -> None:
    with pytest.raises(error, match=f"^(switches_to_indices|indices_to_switches): {words}"):
        call()


def test_indices_between_the_cells_of_a_dilated_window_raise() -> None:
    indices = torch.tensor([[[[0, 1]]]])
    assert torch.equal(indices_to_switches(indices, (1, 4), (1, 2), 1, 0, (1, 2)), torch.zeros_like(indices))
    with pytest.raises(ValueError, match="indices: expected flat positions"):
        indices_to_switches(indices + 1, (1, 4), (1, 2), 1, 0, (1, 2))
