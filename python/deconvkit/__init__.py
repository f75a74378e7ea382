"""Fast operators of generative networks for PyTorch: transposed convolution, switches, sparse KL."""
