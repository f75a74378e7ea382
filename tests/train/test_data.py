"""How processes share batches."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import TensorDataset

from deconvkit.data.images import DataError
from deconvkit.train.data import shared_batches


def batches(count: int, size: int, few: int, processes: int, rank: int, epoch: int = 0) -> list[list[int]]:
    trainer = SimpleNamespace(world_size=processes, global_rank=rank)
    loader = shared_batches(TensorDataset(torch.arange(count)), size, 3, few, trainer, epoch)
    found = [batch.tolist() for (batch,) in loader]
    assert sum(map(len, found)) == len(loader.sampler)  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_a_batch_is_shared_and_no_sample_is_in_it_twice(processes: int) -> None:
    """Together the processes have the batches that one would have, and none waits for another."""
    for count, size, few in itertools.product((*range(processes, 14), 301), (0, 1, 2, 3, 5), (1, 2)):
        parts = [batches(count, size, few, processes, rank) for rank in range(processes)]
        assert len({len(part) for part in parts}) == 1
        whole = batches(count, size * processes, few, 1, 0)
        if size:
            whole = [batch for batch in whole if len(batch) >= processes]
        for together, batch in zip(zip(*parts, strict=True), whole, strict=True):
            assert all(together)
            mixed = [i for turn in itertools.zip_longest(*together) for i in turn if i is not None]
            assert sorted(mixed) == sorted(batch)
            if size * processes not in (0, count) and size != count:
                assert mixed == batch
            assert max(map(len, together)) - min(map(len, together)) <= 1


def test_the_last_batch() -> None:
    for count, few, sizes in (
        (10, 1, [4, 4]),
        (10, 2, [4, 4]),
        (10, 3, [4, 4, 2]),
        (3, 1, [3]),
        (7, 2, [4, 3]),
    ):
        assert [len(batch) for batch in batches(count, 4, few, 1, 0)] == sizes


def test_orders_are_of_the_epoch_but_for_whole_batches() -> None:
    assert batches(9, 4, 3, 1, 0, epoch=1) == batches(9, 4, 3, 1, 0, epoch=1) != batches(9, 4, 3, 1, 0)
    for size in (0, 9):
        assert batches(9, size, 1, 1, 0, epoch=1) == [list(range(9))]


def test_what_cannot_be_shared() -> None:
    with pytest.raises(DataError, match="expected a sample for each of 3 processes, got 2"):
        batches(2, 0, 1, 3, 0)
    with pytest.raises(DataError, match=r"--data\.batch_size: expected 0, for all samples, or more, got -1"):
        batches(2, -1, 1, 1, 0)
