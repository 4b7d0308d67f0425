"""MLX's own Metal kernels through the interpreter: sources that nobody here wrote, with known answers."""
