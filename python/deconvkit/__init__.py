"""Fast operators of generative networks for PyTorch: transposed convolution, pooling with switches, sparse KL."""
