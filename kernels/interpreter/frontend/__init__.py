"""From a kernel's body to C++: MLX's signature around it, its prelude before it, Metal's words rewritten."""
