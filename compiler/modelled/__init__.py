"""What compiled kernels cost on a core that is not here: executions counted under an emulator, cycles by llvm-mca."""
