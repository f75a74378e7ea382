"""The operators, one file an op: its checks, its registration with torch.library and its autograd."""
