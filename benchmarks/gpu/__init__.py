"""What a GPU is to show, measured: ``python -m benchmarks.gpu`` (command.py)."""
