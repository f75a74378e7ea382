"""Data modules: what ships in dependencies' wheels, or what ``--data`` names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from deconvkit.data import digits, images, photographs


class EpochSampler(Sampler[int]):
    """Another order in every epoch, that depends on nothing but the seed and the epoch."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed, self.epoch = count, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        yield from torch.randperm(self.count, generator=generator).tolist()


class Share(DistributedSampler[Any]):
    """One process's samples of a full batch, none of them twice; of a kind that Lightning keeps."""

    def __init__(self, data: Any, processes: int, rank: int) -> None:
        super().__init__(data, processes, rank, shuffle=False)
        self.indices = range(rank, len(data), processes)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)


class TensorData(pl.LightningDataModule):
    """Tensors in memory.

    Args:
        path: what the user's data are; None: those that ship.
        batch_size: samples a batch; 0: all of them.
        seed: of splits, orders and whatever is drawn.
    """

    def __init__(self, path: str | None = None, batch_size: int = 128, seed: int = 0) -> None:
        super().__init__()
        self.path, self.batch_size, self.seed = path, batch_size, seed
        self.tensors: tuple[Tensor, ...] = ()

    def setup(self, stage: str) -> None:
        """Read or draw the data, once."""
        if not self.tensors:
            self.tensors = self.load()

    def load(self) -> tuple[Tensor, ...]:
        """The tensors of the training samples."""
        raise NotImplementedError

    def train_dataloader(self) -> Any:
        """Batches of all tensors."""
        data = TensorDataset(*self.tensors)
        count = len(self.tensors[0])
        size = self.batch_size or count
        processes: int = self.trainer.world_size if self.trainer else 1
        if size == count and processes > 1:
            if count < processes:
                raise images.DataError(f"expected a sample for each of {processes} processes, got {count}")
            share: Any = Share(data, processes, self.trainer.global_rank)  # type: ignore[union-attr]
            return DataLoader(data, batch_size=len(share), sampler=share)
        sampler: Any = None if size == count else EpochSampler(count, self.seed)
        return DataLoader(data, batch_size=size, sampler=sampler, drop_last=count > 2 * size)


class Patches(TensorData):
    """Square patches of grey photographs, in [0.1, 0.9], float64.

    Args:
        path: a folder of images; None: scikit-learn's two photographs.
        count: patches.
        size: pixels a side.
        batch_size: 0: all at once.
        seed: of the places.
    """

    def __init__(
        self,
        path: str | None = None,
        count: int = 10_000,
        size: int = 8,
        batch_size: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(path, batch_size, seed)
        self.count, self.size = count, size

    def load(self) -> tuple[Tensor, ...]:
        """(count, size²)."""
        if self.path is None:
            pictures = list(photographs.sample_photographs().values())
        else:
            pictures = [photographs.grey(images.read_image(f) / 255) for f in images.image_files(self.path)]
        try:
            generator = np.random.default_rng(self.seed)
            centred = photographs.random_patches(pictures, self.count, self.size, generator)
        except ValueError as error:
            raise images.DataError(str(error)) from error
        self.scale = photographs.PatchScale.of(centred)
        return (torch.from_numpy(self.scale.apply(centred)),)


class DigitImages(TensorData):
    """Handwritten digits as vectors, with their labels, split into training and test.

    Args:
        path: a folder with MNIST's IDX files; None: scikit-learn's 8×8 digits.
        batch_size: samples a batch; 0: all of them.
        test_size: digits kept for testing.
        seed: of the split.
        noise: standard deviation of Gaussian noise, the sum clipped to [0, 1]; where positive the tensors
            are (noisy, clean).
        double: float64 instead of float32.
    """

    def __init__(
        self,
        path: str | None = None,
        batch_size: int = 128,
        test_size: int = 500,
        seed: int = 0,
        noise: float = 0.0,
        double: bool = False,
    ) -> None:
        super().__init__(path, batch_size, seed)
        self.test_size, self.noise, self.double = test_size, noise, double

    def load(self) -> tuple[Tensor, ...]:
        """(images, labels), or (noisy, clean)."""
        loaded = digits.sample_digits() if self.path is None else digits.read_mnist(self.path)
        self.size = loaded.size
        pictures = torch.from_numpy(loaded.images).flatten(1)
        labels = torch.from_numpy(loaded.labels)
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(len(pictures), generator=generator)
        if len(order) <= self.test_size:
            raise images.DataError(
                f"{self.path}: expected more than {self.test_size} digits, got {len(order)}"
            )
        test, train = order[: self.test_size], order[self.test_size :]
        if self.double:
            pictures = pictures.double()
        self.test_images, self.test_labels = pictures[test], labels[test]
        self.train_images, self.train_labels = pictures[train], labels[train]
        if not self.noise:
            return self.train_images, self.train_labels
        draw = torch.randn(pictures.shape, generator=generator, dtype=pictures.dtype) * self.noise
        self.test_noisy = (self.test_images + draw[test]).clamp(0, 1)
        return (self.train_images + draw[train]).clamp(0, 1), self.train_images


class Crops(TensorData):
    """Square crops of colour photographs, (3, size, size) in [−1, 1].

    Args:
        path: a folder of images; None: six photographs that ship with scikit-learn and scikit-image.
        count: crops.
        size: pixels a side.
        batch_size: crops a batch.
        seed: of the places.
    """

    def __init__(
        self,
        path: str | None = None,
        count: int = 4096,
        size: int = 64,
        batch_size: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__(path, batch_size, seed)
        self.count, self.size = count, size

    def load(self) -> tuple[Tensor, ...]:
        """(count, 3, size, size)."""
        if self.path is None:
            pictures = list(images.sample_photographs_in_colour().values())
        else:
            pictures = [images.read_image(file) for file in images.image_files(self.path)]
        crops = images.random_crops(pictures, self.count, self.size, np.random.default_rng(self.seed))
        return (torch.from_numpy(crops).permute(0, 3, 1, 2).float().div_(127.5).sub_(1).contiguous(),)
