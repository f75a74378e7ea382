"""Slow, obvious NumPy versions of every op, in float64: what the tests hold the kernels against."""
