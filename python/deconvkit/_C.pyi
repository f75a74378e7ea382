"""The native functions of csrc/bindings.cpp.

A Ref is (data_ptr, dtype, sizes, strides): ops/_library.py, ref().
"""

from collections.abc import Sequence

Ref = tuple[int, int, Sequence[int], Sequence[int]]
Pair = Sequence[int]

def isa() -> str: ...
def vector_bytes() -> int: ...
def available_isas() -> list[str]: ...
def select_isa(name: str) -> None: ...
def has_winograd(
    transposed: bool, small: Pair, large: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> bool: ...
def implicit_gemms(
    transposed: bool,
    element_bytes: int,
    batch: int,
    small_channels: int,
    large_channels: int,
    small: Pair,
    large: Pair,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> tuple[bool, bool]: ...
def max_pool2d_with_switches(
    input: Ref,
    output: Ref,
    switches: Ref,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    threads: int,
) -> bool: ...
def max_pool2d_backward(
    grad_output: Ref,
    switches: Ref,
    grad_input: Ref,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    threads: int,
) -> bool: ...
def max_pool2d_gather(
    input: Ref,
    switches: Ref,
    output: Ref,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    threads: int,
) -> bool: ...
def max_unpool2d(
    input: Ref,
    switches: Ref,
    output: Ref,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    threads: int,
) -> bool: ...
def max_unpool2d_backward(
    grad_output: Ref,
    switches: Ref,
    grad_input: Ref,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    threads: int,
) -> bool: ...
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
    threads: int,
    transformed: Ref | None,
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
    threads: int,
    transformed: Ref | None,
) -> None: ...
def conv_transformed_size(
    transposed: bool, weight: Ref, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> int: ...
def conv_transform_weights(
    transposed: bool,
    weight: Ref,
    transformed: Ref,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    threads: int,
) -> None: ...
def fingerprint(tensor: Ref, threads: int) -> int: ...
def change_layout(input: Ref, output: Ref, threads: int) -> None: ...
def channel_sums(input: Ref, output: Ref, threads: int) -> None: ...
def conv_weight_grad(
    small: Ref,
    large: Ref,
    grad_weight: Ref,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    algorithm: int,
    threads: int,
) -> None: ...
def sparse_sigmoid(
    z: Ref,
    activations: Ref,
    sums: Ref | None,
    penalty: Ref | None,
    slope: Ref | None,
    rho: float,
    beta: float,
    threads: int,
) -> None: ...
def sparse_kl(
    activations: Ref,
    sums: Ref | None,
    penalty: Ref | None,
    slope: Ref | None,
    rho: float,
    beta: float,
    threads: int,
) -> None: ...
def sparse_kl_from_sums(
    sums: Ref, penalty: Ref, slope: Ref, samples: float, scale: float, rho: float, beta: float
) -> None: ...
def sparse_sigmoid_backward(
    grad_activations: Ref | None,
    z: Ref,
    slope: Ref,
    grad_penalty: Ref | None,
    grad_z: Ref,
    threads: int,
) -> None: ...
