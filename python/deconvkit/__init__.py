"""Fast operators of generative networks for PyTorch: transposed convolution, switches, sparse KL."""

import signal
import sys

# The command: an interrupt during the imports below, the best part of a second, ends it without a traceback.
# main() puts Python's handler back.
if (
    sys.argv[:1]
    and (sys.argv[0] == "-m" or sys.argv[0].endswith("/deconvkit"))
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from deconvkit import nn
from deconvkit._version import __version__
from deconvkit.memory import keep_freed_memory
from deconvkit.ops.conv2d import conv1d, conv2d
from deconvkit.ops.conv_transpose2d import conv_transpose1d, conv_transpose2d
from deconvkit.ops.conv_transpose3d import conv_transpose3d
from deconvkit.ops.max_pool2d import max_pool1d_with_switches, max_pool2d_with_switches
from deconvkit.ops.max_unpool2d import max_unpool1d, max_unpool2d
from deconvkit.ops.plan import backend_info, plan
from deconvkit.ops.sparse_kl import sparse_kl
from deconvkit.ops.sparse_sigmoid import sparse_sigmoid
from deconvkit.ops.switches import indices_to_switches, switches_to_indices

__all__ = [
    "__version__",
    "backend_info",
    "conv1d",
    "conv2d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "indices_to_switches",
    "keep_freed_memory",
    "max_pool1d_with_switches",
    "max_pool2d_with_switches",
    "max_unpool1d",
    "max_unpool2d",
    "nn",
    "plan",
    "sparse_kl",
    "sparse_sigmoid",
    "switches_to_indices",
]
