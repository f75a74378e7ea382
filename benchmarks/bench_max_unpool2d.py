"""max_unpool2d against torch on the layers of benchmarks/layers.py."""


def test_max_unpool2d(run_case) -> None:
    run_case()
