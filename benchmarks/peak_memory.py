"""Peak resident memory of one forward+backward of each convolution layer, torch's against ours, in MB.

    python -m benchmarks.peak_memory [LAYER ...]

Each is a process of its own; what is printed is above the process just before the call, inputs made.
"""

from __future__ import annotations

import subprocess
import sys

from deconvkit.bench.layers import LAYERS, Conv


def _layers() -> dict[str, Conv]:
    return {
        layer.name: layer for op in ("conv_transpose2d", "conv2d") for layer in LAYERS[op] if layer.batch > 1
    }


def _status(name: str) -> float:
    with open("/proc/self/status") as file:
        (line,) = (line for line in file if line.startswith(name))
    return int(line.split()[1]) / 1024


def measure(name: str, provider: str) -> None:
    """Print the peak of this process."""
    import torch
    from torch.nn import functional

    import deconvkit

    torch.set_num_threads(2)
    layer = _layers()[name]
    op = "conv_transpose2d" if layer.transposed else "conv2d"
    function = getattr(functional if provider == "torch" else deconvkit, op)
    small = torch.randn(1, 32, 8, 8, requires_grad=True)  # loads the libraries and starts the threads
    function(small, torch.randn(32, 32, 3, 3), stride=2).sum().backward()
    input, weight = torch.randn(layer.input_shape), torch.randn(layer.weight_shape)
    bias = torch.randn(layer.out_channels)
    for tensor in (input, weight, bias):
        tensor.requires_grad_()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak counts from here
    before = _status("VmRSS")
    output = function(input, weight, bias, **layer.arguments)
    output.backward(torch.ones_like(output))
    print(_status("VmHWM") - before)


def main(names: list[str]) -> None:
    """Measure the layers, or those named."""
    print(f"{'layer':12} {'torch':>8} {'deconvkit':>10} {'difference':>11}")
    for name in names or _layers():
        peak = {}
        for provider in ("torch", "deconvkit"):
            command = sys.executable, "-m", "benchmarks.peak_memory", "--measure", name, provider
            peak[provider] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        torchs, ours = peak["torch"], peak["deconvkit"]
        print(f"{name:12} {torchs:8.0f} {ours:10.0f} {ours - torchs:+11.0f}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(*sys.argv[2:])
    else:
        main(sys.argv[1:])
