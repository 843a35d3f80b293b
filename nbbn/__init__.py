"""nbbn: batch-normalised networks on the CPU, on Numba."""
