"""conv_transpose1d against torch on the layers of deconvkit.bench.layers."""


def test_conv_transpose1d(run_case) -> None:
    run_case()
