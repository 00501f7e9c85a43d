"""CUDA: kernels to CUDA C, that to machine code, and the emulation of it on a CPU."""
