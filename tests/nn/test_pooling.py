"""The pooling modules against torch's own, of the same constructor arguments."""

import copy
import pickle

import pytest
import torch

from deconvkit import nn

POOLS = [
    dict(kernel_size=2),
    dict(kernel_size=3, stride=2, padding=1),
    dict(kernel_size=3, stride=2, dilation=2, ceil_mode=True),
]
UNPOOLS = [dict(kernel_size=2), dict(kernel_size=3, stride=3, padding=1), dict(kernel_size=2, stride=3)]
BATCHES = [(2,), (), (0,)]


def sizes(name):
    return (12, 15)[: int(name[-2])]


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("arguments", POOLS)
@pytest.mark.parametrize("name", ["MaxPool1d", "MaxPool2d"])
def test_pool_is_torchs(name, arguments, batch):
    ours, theirs = getattr(nn, name)(**arguments), getattr(torch.nn, name)(**arguments)
    assert isinstance(ours, type(theirs))
    assert repr(ours) == repr(theirs)
    x = torch.randn(*batch, 3, *sizes(name))
    ours_x, theirs_x = x.clone().requires_grad_(), x.clone().requires_grad_()
    result, expected = ours(ours_x), theirs(theirs_x)
    assert torch.equal(result, expected)
    result.sin().sum().backward()
    expected.sin().sum().backward()
    torch.testing.assert_close(ours_x.grad, theirs_x.grad)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("arguments", UNPOOLS)
@pytest.mark.parametrize("dims", [1, 2])
def test_unpool_takes_the_switches_of_pool_as_torchs_takes_indices(dims, arguments, batch):
    results = []
    x = torch.randn(*batch, 3, *(12, 15)[:dims])
    for modules in (nn, torch.nn):
        pool = getattr(modules, f"MaxPool{dims}d")(**arguments, return_indices=True)
        unpool = getattr(modules, f"MaxUnpool{dims}d")(**arguments)
        leaf = x.clone().requires_grad_()
        pooled, where = pool(leaf)
        output = unpool(pooled, where, x.shape[-dims:])
        results.append((pooled, output, *torch.autograd.grad(output.square().sum(), leaf)))
        if modules is nn:
            assert where.dtype == torch.uint8
            assert torch.equal(unpool(pooled, where, output_size=x.shape), output)
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_dilation_of_unpool_is_that_of_pool():
    x = torch.randn(2, 3, 12, 15)
    pool = nn.MaxPool2d(2, stride=4, dilation=3, return_indices=True)
    unpool = nn.MaxUnpool2d(2, stride=4, dilation=3)
    output = unpool(*pool(x), output_size=x.shape)
    assert torch.equal(output[output != 0].sort().values, pool(x)[0].flatten().sort().values)
    assert repr(unpool) == "MaxUnpool2d(kernel_size=(2, 2), stride=(4, 4), padding=(0, 0), dilation=(3, 3))"
    assert repr(nn.MaxUnpool1d(2)).endswith("dilation=(1,))")


@pytest.mark.parametrize("module", [nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2, dilation=1)])
def test_copies_and_pickles(module):
    for copied in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert repr(copied) == repr(module)
        assert not copied.state_dict()


def test_a_model_of_both_compiles_and_exports():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.pool, self.unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)

        def forward(self, x):
            pooled, switches = self.pool(x)
            return self.unpool(pooled, switches, output_size=x.shape)

    model, x = Model(), torch.randn(2, 3, 9, 8)
    expected = model(x)
    assert torch.equal(torch.compile(model, fullgraph=True, backend="aot_eager")(x), expected)
    torch._dynamo.reset()
    assert torch.equal(torch.export.export(model, (x,)).module()(x), expected)


def test_errors_come_from_the_operators():
    with pytest.raises(ValueError, match=r"^max_pool2d_with_switches: input: expected"):
        nn.MaxPool2d(2)(torch.randn(3, 4))
    with pytest.raises(TypeError, match=r"^max_unpool2d: switches: expected uint8.*indices_to_switches"):
        nn.MaxUnpool2d(2)(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2, dtype=torch.int64))
