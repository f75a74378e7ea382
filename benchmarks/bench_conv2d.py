"""conv2d against torch on the layers of deconvkit.bench.layers."""


def test_conv2d(run_case) -> None:
    run_case()
