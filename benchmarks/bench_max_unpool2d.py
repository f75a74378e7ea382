"""max_unpool2d against torch on the layers of deconvkit.bench.layers."""


def test_max_unpool2d(run_case) -> None:
    run_case()
