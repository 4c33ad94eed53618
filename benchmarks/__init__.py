"""Measurements: lucid beside other runtimes, its growth with the input, its kernels one by one."""
