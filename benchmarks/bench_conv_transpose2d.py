"""conv_transpose2d against torch on the layers of benchmarks/layers.py."""


def test_conv_transpose2d(run_case) -> None:
    run_case()
