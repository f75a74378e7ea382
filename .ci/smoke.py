"""Try an installed wheel: one call of each op against torch, and one OpenMP runtime in the process."""

import torch
import torch.nn.functional as F
from torch.testing import assert_close

import deconvkit

x = torch.randn(2, 4, 9, 11)
w = torch.randn(4, 6, 3, 3)

v = torch.randn(6, 4, 3, 3)
for op in ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "conv1d", "conv2d"):
    weight = w if "transpose" in op else v
    rank = int(op[-2])
    if rank == 1:
        args = x[..., 0], weight[..., 0]
    elif rank == 2:
        args = x, weight
    else:
        args = x[..., None], weight[..., None]
    assert_close(getattr(deconvkit, op)(*args), getattr(F, op)(*args), rtol=1e-4, atol=1e-5)

pooled, switches = deconvkit.max_pool2d_with_switches(x, 2)
expected, indices = F.max_pool2d(x, 2, return_indices=True)
assert_close(pooled, expected, rtol=0, atol=0)
assert torch.equal(deconvkit.switches_to_indices(switches, (9, 11), 2), indices)
assert torch.equal(deconvkit.indices_to_switches(indices, (9, 11), 2), switches)
unpooled = deconvkit.max_unpool2d(pooled, switches, 2, output_size=(9, 11))
assert_close(unpooled, F.max_unpool2d(expected, indices, 2, output_size=(9, 11)), rtol=0, atol=0)
pooled, switches = deconvkit.max_pool1d_with_switches(x[0], 2)
assert deconvkit.max_unpool1d(pooled, switches, 2).shape == (4, 9, 10)

z = torch.randn(50, 8, requires_grad=True)
activations, penalty = deconvkit.sparse_sigmoid(z, 0.1)
assert_close(activations, z.sigmoid())
assert_close(deconvkit.sparse_kl(activations, 0.1), penalty)
penalty.backward()
assert z.grad is not None

with open("/proc/self/maps") as maps:
    runtimes = {line.split()[-1] for line in maps if "libgomp" in line}
assert len(runtimes) == 1, runtimes

print(
    f"deconvkit {deconvkit.__version__} with torch {torch.__version__}: every op works, one {runtimes.pop()}"
)
