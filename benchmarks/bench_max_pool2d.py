"""max_pool2d against torch on the layers of deconvkit.bench.layers."""


def test_max_pool2d(run_case) -> None:
    run_case()
