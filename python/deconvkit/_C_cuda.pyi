"""The native functions of csrc/bindings_cuda.cpp.

A Ref is (data_ptr, dtype, sizes, strides): ops/_library.py, ref(). A Stream is (device index, stream handle).
"""

from collections.abc import Sequence

Ref = tuple[int, int, Sequence[int], Sequence[int]]
Pair = Sequence[int]
Stream = tuple[int, int]

architectures: str

def versions() -> list[int]: ...
def registered_kernels() -> int: ...
def prepare(device: int) -> None: ...
def conv_transpose2d(
    input: Ref,
    weight: Ref,
    bias: Ref | None,
    output: Ref,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    activation: int,
    slope: float,
    algorithm: int,
    stream: Stream,
    workspace: Ref | None,
) -> None: ...
def conv2d(
    input: Ref,
    weight: Ref,
    bias: Ref | None,
    output: Ref,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    activation: int,
    slope: float,
    algorithm: int,
    stream: Stream,
    workspace: Ref | None,
) -> None: ...
def conv_workspace_size(
    transposed: bool,
    input: Ref,
    weight: Ref,
    output: Ref,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    algorithm: int,
) -> int: ...
def conv_weight_grad_workspace_size(
    small: Ref,
    large: Ref,
    grad_weight: Ref,
    grad_bias: Ref | None,
    of_large: bool,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    algorithm: int,
) -> int: ...
def conv_weight_grad(
    small: Ref,
    large: Ref,
    grad_weight: Ref,
    grad_bias: Ref | None,
    of_large: bool,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    algorithm: int,
    workspace: Ref | None,
    stream: Stream,
) -> bool: ...
def max_pool2d_with_switches(
    input: Ref,
    output: Ref,
    switches: Ref,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    stream: Stream,
) -> bool: ...
def max_pool2d_backward(
    grad_output: Ref,
    switches: Ref,
    grad_input: Ref,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    stream: Stream,
) -> bool: ...
def max_pool2d_gather(
    input: Ref,
    switches: Ref,
    output: Ref,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    stream: Stream,
) -> bool: ...
def max_unpool2d(
    input: Ref,
    switches: Ref,
    output: Ref,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    stream: Stream,
) -> bool: ...
def max_unpool2d_backward(
    grad_output: Ref,
    switches: Ref,
    grad_input: Ref,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    stream: Stream,
) -> bool: ...
def sparse_workspace_size(activations: Ref) -> int: ...
def sparse_sigmoid(
    z: Ref,
    activations: Ref,
    sums: Ref | None,
    penalty: Ref | None,
    slope: Ref | None,
    rho: float,
    beta: float,
    workspace: Ref,
    stream: Stream,
) -> None: ...
def sparse_kl(
    activations: Ref,
    sums: Ref | None,
    penalty: Ref | None,
    slope: Ref | None,
    rho: float,
    beta: float,
    workspace: Ref,
    stream: Stream,
) -> None: ...
def sparse_kl_from_sums(
    sums: Ref,
    samples: Ref,
    penalty: Ref,
    slope: Ref,
    scale: float,
    rho: float,
    beta: float,
    workspace: Ref,
    stream: Stream,
) -> None: ...
def sparse_sigmoid_backward(
    grad_activations: Ref | None,
    z: Ref,
    slope: Ref,
    grad_penalty: Ref | None,
    grad_z: Ref,
    stream: Stream,
) -> None: ...
