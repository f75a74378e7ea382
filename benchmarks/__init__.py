"""Speed: pytest-benchmark cases (bench_<op>.py) and comparisons (compare.py), from one table of layers."""
