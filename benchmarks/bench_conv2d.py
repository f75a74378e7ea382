"""conv2d against torch on the layers of benchmarks/layers.py."""


def test_conv2d(run_case) -> None:
    run_case()
