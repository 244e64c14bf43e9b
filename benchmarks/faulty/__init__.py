"""The faults that benchmarks/faults.py puts this program to, a module a kind."""
