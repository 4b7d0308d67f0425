"""`bench kernels`: each operation against stock MLX."""
