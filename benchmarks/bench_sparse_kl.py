"""sparse_sigmoid, forward and fused backward, against torch on the layers of deconvkit.bench.layers."""


def test_sparse_kl(run_case) -> None:
    run_case()
