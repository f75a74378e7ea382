"""Scratch memory that the system refuses."""

import pytest

from tests.test_package import output_of


def test_refused_scratch_memory_is_a_memory_error() -> None:
    """Each op is refused its outputs or its scratch, before and inside a parallel region, and then runs."""
    printed = output_of("""
        import resource

        import torch

        import deconvkit

        torch.set_num_threads(3)
        x, w = torch.randn(8, 256, 16, 16), torch.randn(256, 128, 5, 5)
        deconvkit.conv_transpose2d(x[:, :16], w[:16, :16].contiguous(), algorithm="direct")  # starts threads
        expected = torch.nn.functional.conv_transpose2d(x, w, None, 2, 2)

        def call(op, algorithm):
            if op == "forward":
                return deconvkit.conv_transpose2d(x, w, None, 2, 2, algorithm=algorithm)
            if op == "data":
                return deconvkit.conv2d(expected, w, None, 2, 2, algorithm=algorithm)
            geometry = (5, 5), (2, 2), (2, 2), (1, 1), 1
            return torch.ops.deconvkit.conv_weight_grad(x, expected, *geometry, False, algorithm)

        refused = set()
        for megabytes in (1, *range(9, 33)):
            for algorithm in ("direct", "winograd"):
                for op in ("forward", "data", "weight"):
                    size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
                    resource.setrlimit(resource.RLIMIT_AS, (size + (megabytes << 20), -1))
                    try:
                        call(op, algorithm)
                    except MemoryError as error:
                        assert "deconvkit: the system refused" in str(error)
                        refused.add(algorithm)
                    except RuntimeError as error:
                        assert "allocate memory" in str(error)  # torch's own, of the output
                    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
        print(*sorted(refused))
        for algorithm in ("direct", "winograd"):
            torch.testing.assert_close(call("forward", algorithm), expected, rtol=1e-3, atol=1e-2)
        print("alive")
    """)
    assert printed.split() == ["direct", "winograd", "alive"]


def test_refused_scratch_memory_of_pooling() -> None:
    """Its threads ask for their own; what one is refused is thrown behind the parallel region."""
    printed = output_of("""
        import resource

        import torch

        from deconvkit import _C, max_pool2d_with_switches
        from deconvkit.ops._library import ref

        torch.set_num_threads(2)
        max_pool2d_with_switches(torch.randn(8, 8, 64, 64), 2)  # starts threads
        x = torch.randn(1, 20000, 8, 8).contiguous(memory_format=torch.channels_last)
        y, switches = max_pool2d_with_switches(x, 3, 2)
        tensors = ref(x), ref(switches), ref(torch.empty_like(y))
        size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size, -1))
        try:
            _C.max_unpool2d_backward(*tensors, (3, 3), (2, 2), (0, 0), (1, 1), 2)
        except MemoryError as error:
            print(error)
        resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    """)
    assert "deconvkit: the system refused" in printed


@pytest.mark.parametrize(
    "call",
    [
        "deconvkit.conv_transpose2d(ones(8, 64, 9, 9), ones(64, 32, 16, 16), stride=8, algorithm=algorithm)",
        "deconvkit.conv2d(ones(2, 768, 40, 40), ones(32, 768, 17, 17), None, 8, 8, algorithm=algorithm)",
        "deconvkit.conv2d(ones(8, 2048, 16, 16), ones(56, 2048, 3, 3), None, 1, 1, algorithm=algorithm)",
        "torch.ops.deconvkit.conv_weight_grad("
        "ones(9, 1024, 14, 14), ones(9, 1024, 14, 14), (3, 3), *[(1, 1)] * 3, 1, False, algorithm)",
    ],
    ids=["many phases", "many phases and channels", "transformed weights", "weight gradient"],
)
def test_scratch_memory_of_a_thread(call) -> None:
    """At most 64 MB, of either algorithm and here of both."""
    printed = output_of(f"""
        import ctypes

        import torch
        from torch import ones

        import deconvkit

        def megabytes(name):
            with open("/proc/self/status") as status:
                (line,) = (line for line in status if line.startswith(name))
            return int(line.split()[1]) / 1024

        torch.set_num_threads(1)
        for algorithm in ("direct", "winograd"):
            before = megabytes("VmRSS")
            {call}
            ctypes.CDLL(None).malloc_trim(0)
            print(megabytes("VmRSS") - before)
    """)
    direct, winograd = map(float, printed.split())
    assert 1 < direct + winograd < 64
