"""Timings by pytest-benchmark (bench_<op>.py), the results that README quotes, and how they are made."""
