"""Target descriptions and kernels; the only package that imports TVM."""
