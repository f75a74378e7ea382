"""max_pool2d against torch on the layers of benchmarks/layers.py."""


def test_max_pool2d(run_case) -> None:
    run_case()
