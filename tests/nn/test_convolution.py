"""The convolution modules against torch's own, of the same constructor arguments and state."""

import copy
import pickle

import pytest
import torch
from torch.nn import functional

from deconvkit import nn

NAMES = ["Conv1d", "Conv2d", "ConvTranspose1d", "ConvTranspose2d"]

# Constructor arguments behind (in_channels, out_channels), for one dimension or as (vertical, horizontal).
COMMON = [
    dict(kernel_size=3),
    dict(kernel_size=4, stride=2, padding=1),
    dict(kernel_size=3, dilation=2, groups=2),
    dict(kernel_size=2, stride=3, bias=False, groups=4),
    dict(kernel_size=1, dtype=torch.float64),
]
CASES = (
    [(name, arguments) for name in NAMES for arguments in COMMON]
    + [(name, dict(kernel_size=5, stride=2, padding=2, output_padding=1)) for name in NAMES if "T" in name]
    + [("ConvTranspose2d", dict(kernel_size=(5, 2), stride=(1, 3), padding=(2, 0), output_padding=(0, 2)))]
    + [("ConvTranspose2d", dict(kernel_size=(1, 3), stride=1, dilation=(1, 4), output_padding=(0, 3)))]
    + [("Conv2d", dict(kernel_size=(5, 2), stride=(1, 3), padding=(2, 0), dilation=(1, 2)))]
    + [
        (name, dict(kernel_size=k, padding=p))
        for name in NAMES[:2]
        for k in (3, 4)
        for p in ("same", "valid")
    ]
    + [("Conv2d", dict(kernel_size=(4, 3), padding="same", dilation=(1, 2)))]
)

ACTIVATIONS = [
    ("relu", torch.relu),
    ("leaky_relu", lambda x: functional.leaky_relu(x, 0.2)),
    (("leaky_relu", 0.05), lambda x: functional.leaky_relu(x, 0.05)),
    ("tanh", torch.tanh),
    ("sigmoid", torch.sigmoid),
]


def pair(name, **arguments):
    """Our module and torch's, of the same state."""
    ours, theirs = (getattr(module, name)(4, 8, **arguments) for module in (nn, torch.nn))
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def an_input(module, batch=(3,), channels=4):
    sizes = (9, 11)[: len(module.kernel_size)]
    return torch.randn(*batch, channels, *sizes, dtype=module.weight.dtype)


def close(ours, theirs):
    assert ours.stride() == theirs.stride()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("batch", [(3,), (), (0,)])
@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_module_is_torchs(name, arguments, batch):
    ours, theirs = pair(name, **arguments)
    assert isinstance(ours, getattr(torch.nn, name))
    x = an_input(ours, batch)
    ours_x, theirs_x = x.clone().requires_grad_(), x.clone().requires_grad_()
    result, expected = ours(ours_x), theirs(theirs_x)
    close(result, expected)
    weights = torch.randn_like(expected)
    (result * weights).sum().backward()
    (expected * weights).sum().backward()
    close(ours_x.grad, theirs_x.grad)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        close(mine.grad, other.grad)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bias", [True, False])
def test_state_dicts_go_both_ways(name, bias):
    ours, theirs = (getattr(module, name)(4, 6, 3, stride=2, bias=bias) for module in (nn, torch.nn))
    assert list(ours.state_dict()) == list(theirs.state_dict()) == ["weight"] + ["bias"] * bias
    for to, source in ((theirs, ours), (ours, theirs)):
        with torch.no_grad():
            for parameter in source.parameters():
                parameter.uniform_(-1, 1)
        to.load_state_dict(source.state_dict(), strict=True)
        for mine, other in zip(to.parameters(), source.parameters(), strict=True):
            assert torch.equal(mine, other)
        x = an_input(ours)
        close(ours(x), theirs(x))


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_torchs_weights(name):
    torch.manual_seed(5)
    ours = getattr(nn, name)(4, 6, 3)
    torch.manual_seed(5)
    theirs = getattr(torch.nn, name)(4, 6, 3)
    assert torch.equal(ours.weight, theirs.weight)
    assert torch.equal(ours.bias, theirs.bias)


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_repr_is_torchs_and_shows_what_is_ours(name, arguments):
    ours, theirs = pair(name, **arguments)
    assert repr(ours) == repr(theirs)
    more = getattr(nn, name)(4, 8, **arguments, activation=("leaky_relu", 0.1), algorithm="torch")
    assert repr(more) == repr(theirs)[:-1] + ", activation=('leaky_relu', 0.1), algorithm='torch')"
    assert repr(getattr(nn, name)(4, 8, 3, activation="tanh")).endswith("activation='tanh')")


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [1, 2, "same", "valid"])
@pytest.mark.parametrize("kernel", [3, 4])
@pytest.mark.parametrize("name", NAMES[:2])
def test_padding_modes(name, kernel, padding, mode):
    ours, theirs = pair(name, kernel_size=kernel, padding=padding, padding_mode=mode)
    assert repr(ours) == repr(theirs)
    for batch in ((3,), ()):
        x = an_input(ours, batch)
        close(ours(x), theirs(x))


def test_padding_mode_with_a_pair():
    ours, theirs = pair("Conv2d", kernel_size=3, stride=2, padding=(2, 1), padding_mode="circular")
    x = an_input(ours).requires_grad_()
    close(ours(x), theirs(x))
    close(*(torch.autograd.grad(m(x).square().sum(), x)[0] for m in (ours, theirs)))


@pytest.mark.parametrize("batch", [(3,), ()])
@pytest.mark.parametrize(
    ("name", "arguments", "sizes"),
    [
        ("ConvTranspose1d", dict(kernel_size=3, stride=4, padding=1), [(33,), (34,), (35,), (36,)]),
        ("ConvTranspose2d", dict(kernel_size=4, stride=2, padding=1), [(18, 22), (19, 23), (18, 23)]),
        ("ConvTranspose2d", dict(kernel_size=(5, 3), stride=(2, 3), dilation=(1, 2)), [(22, 36), (21, 37)]),
    ],
)
def test_output_size(name, arguments, sizes, batch):
    ours, theirs = pair(name, **arguments)
    x = an_input(ours, batch)
    for size in sizes:
        expected = theirs(x, output_size=list(size))
        assert expected.shape[-len(size) :] == size
        for wanted in (size, list(size), torch.Size(size), expected.shape):
            close(ours(x, output_size=wanted), expected)
    close(ours(x, None), theirs(x))


def test_output_size_gives_back_what_was_convolved():
    down, up = nn.Conv2d(4, 8, 3, stride=3, padding=1), nn.ConvTranspose2d(8, 4, 3, stride=3, padding=1)
    for height in range(6, 12):
        x = torch.randn(2, 4, height, 10)
        assert up(down(x), output_size=x.shape).shape == x.shape


def test_output_size_within_the_dilation():
    """The ops, as torch's, add less than the dilation too; torch's module alone refuses."""
    up = nn.ConvTranspose1d(4, 8, 3, stride=1, dilation=3)
    x = an_input(up)
    expected = functional.conv_transpose1d(x, up.weight, up.bias, output_padding=2, dilation=3)
    close(up(x, output_size=[17]), expected)


@pytest.mark.parametrize(
    ("name", "size", "told"),
    [
        ("ConvTranspose1d", (17,), r"\(18,\) to \(19,\)"),
        ("ConvTranspose1d", (20,), r"\(18,\) to \(19,\)"),
        ("ConvTranspose2d", (18, 24), r"\(18, 22\) to \(19, 23\)"),
        ("ConvTranspose2d", (17, 22), r"\(18, 22\) to \(19, 23\)"),
        ("ConvTranspose2d", (18,), "2 or 4 sizes"),
        ("ConvTranspose2d", (8, 18, 22), "2 or 4 sizes"),
        ("ConvTranspose2d", (), "2 or 4 sizes"),
        ("ConvTranspose1d", (3, 18), "1 or 3 sizes"),
    ],
)
def test_output_size_that_does_not_fit(name, size, told):
    up = getattr(nn, name)(4, 8, 4, stride=2, padding=1)
    with pytest.raises(ValueError, match=f"{name}: output_size: expected {told}.*got"):
        up(an_input(up), output_size=size)
    with pytest.raises(TypeError, match=f"{name}: output_size: expected a tuple of ints, got 18"):
        up(an_input(up), output_size=18)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("activation", "function"), ACTIVATIONS)
def test_activations(name, activation, function):
    theirs = getattr(torch.nn, name)(4, 8, 3, stride=2, padding=1)
    x = an_input(theirs).requires_grad_()
    expected = function(theirs(x))
    weights = torch.randn_like(expected)
    expected_grads = torch.autograd.grad((expected * weights).sum(), [x, *theirs.parameters()])
    for algorithm in ("auto", "direct", "torch"):
        ours = getattr(nn, name)(4, 8, 3, 2, 1, activation=activation, algorithm=algorithm)
        ours.load_state_dict(theirs.state_dict())
        result = ours(x)
        close(result, expected)
        grads = torch.autograd.grad((result * weights).sum(), [x, *ours.parameters()])
        for grad, expected_grad in zip(grads, expected_grads, strict=True):
            close(grad, expected_grad)


@pytest.mark.parametrize("name", NAMES)
def test_copies(name):
    one = getattr(nn, name)(4, 8, 3, stride=2, activation=("leaky_relu", 0.3), algorithm="direct")
    x = an_input(one)
    for other in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert type(other) is type(one)
        assert repr(other) == repr(one)
        assert (other.activation, other.algorithm) == (("leaky_relu", 0.3), "direct")
        assert torch.equal(other(x), one(x))
        assert other.weight is not one.weight


def test_conversions():
    up = nn.ConvTranspose2d(4, 8, 3, device="meta", dtype=torch.bfloat16)
    assert up.weight.is_meta
    assert up(torch.empty(2, 4, 5, 6, device="meta", dtype=torch.bfloat16)).shape == (2, 8, 7, 8)
    down, theirs = pair("Conv2d", kernel_size=3)
    down, theirs = (m.double().to(memory_format=torch.channels_last) for m in (down, theirs))
    x = an_input(down)
    close(down(x), theirs(x))
    close(down(x.contiguous(memory_format=torch.channels_last)), theirs(x))


def network(module, **relu):
    """Down and up again, with everything a generator's author puts around a convolution."""
    wrapped = torch.nn.utils.parametrizations.weight_norm(module.ConvTranspose2d(6, 6, 3, padding=1))
    layers = [
        module.Conv2d(2, 6, 4, stride=2, padding=1, **relu),
        torch.nn.BatchNorm2d(6),
        wrapped,
        module.ConvTranspose2d(6, 2, 4, stride=2, padding=1),
    ]
    if not relu:
        layers.insert(1, torch.nn.ReLU())
    return torch.nn.Sequential(*layers)


def test_training_goes_as_torchs():
    ours, theirs = network(nn, activation="relu"), network(torch.nn)
    with torch.no_grad():
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            mine.copy_(other)
    x = torch.randn(16, 2, 8, 8).cumsum(2).tanh()
    losses = []
    for net in (ours, theirs):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
        history = []
        for _ in range(12):
            loss = functional.mse_loss(net(x), x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            history.append(loss.item())
        losses.append(history)
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert losses[0][-1] < 0.7 * losses[0][0]


@pytest.mark.parametrize("name", NAMES)
def test_compile_export_and_functional_call(name):
    module = getattr(nn, name)(4, 8, 4, stride=2, padding=1, activation="relu")
    x = an_input(module)
    expected = module(x)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    close(compiled(x), expected)
    close(torch.export.export(module, (x,)).module()(x), expected)
    parameters = {key: value.detach() for key, value in module.named_parameters()}

    def loss(parameters, x):
        return torch.func.functional_call(module, parameters, (x,)).square().sum()

    per_sample = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x)
    summed = torch.autograd.grad(expected.square().sum(), list(module.parameters()))
    for key, total in zip(parameters, summed, strict=True):
        torch.testing.assert_close(per_sample[key].sum(0), total, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_bad_arguments_are_told_at_once(name):
    make = getattr(nn, name)
    for bad in ("swish", 3, ["relu"], ("leaky_relu", "x"), ("leaky_relu", -1.0), ("relu", 0.1)):
        with pytest.raises(ValueError, match=f"{name}: activation: expected.*got"):
            make(4, 8, 3, activation=bad)
    for bad in ("fft", None, 0, ""):
        with pytest.raises(ValueError, match=f"{name}: algorithm: expected one of.*got"):
            make(4, 8, 3, algorithm=bad)
    with pytest.raises(ValueError, match="groups"):
        make(4, 8, 3, groups=3)
    with pytest.raises(ValueError, match="groups"):
        make(4, 8, 3, groups=0)
    with pytest.raises(ValueError, match=r"padding.mode"):
        make(4, 8, 3, padding_mode="mirror")


def test_bad_paddings():
    with pytest.raises(ValueError, match="'same'"):
        nn.Conv2d(4, 8, 3, padding="same", stride=2)
    with pytest.raises(ValueError, match="Invalid padding"):
        nn.Conv1d(4, 8, 3, padding="full")
    with pytest.raises(ValueError, match="padding mode"):
        nn.ConvTranspose2d(4, 8, 3, padding_mode="circular")


@pytest.mark.parametrize("name", NAMES)
def test_bad_inputs(name):
    module = getattr(nn, name)(4, 8, 3)
    with pytest.raises(ValueError, match=r"input: expected 4 channels.*got 5"):
        module(an_input(module, channels=5))
    with pytest.raises(ValueError, match="input: expected shape"):
        module(torch.randn(4))
    with pytest.raises(TypeError, match="dtype"):
        module(an_input(module).double())
    with pytest.raises(TypeError, match=r"input: expected a torch.Tensor"):
        module([1.0])
    if "T" in name:
        for size, told in ((torch.arange(5000), "Tensor$"), ([8, "a"], r"\["), ([8.0], r"\[")):
            with pytest.raises(TypeError, match=f"output_size: expected a tuple of ints, got {told}"):
                module(an_input(module), output_size=size)
        with pytest.raises(TypeError, match=r"input: expected a torch.Tensor, got NoneType"):
            module(None, output_size=(8, 8))
    else:
        padded = getattr(nn, name)(4, 8, 3, padding=1, padding_mode="circular")
        with pytest.raises(TypeError, match=r"input: expected a torch.Tensor, got NoneType"):
            padded(None)
    for arguments, told in (
        (dict(stride=0), "stride: expected"),
        (dict(padding=-1), "padding: expected"),
        (dict(dilation=0), "dilation: expected"),
    ):
        module = getattr(nn, name)(4, 8, 3, **arguments)
        with pytest.raises(ValueError, match=told):
            module(an_input(module))
