"""conv_transpose1d against torch on the layers of benchmarks/layers.py."""


def test_conv_transpose1d(run_case) -> None:
    run_case()
