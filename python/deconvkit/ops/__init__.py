"""The operators: for each its checks, its registration with torch.library and its autograd, one file an op."""
