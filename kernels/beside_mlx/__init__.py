"""Our Metal kernels beside MLX's own, told apart on any machine: bytes that they ask for, and registers."""
