"""The system that the program runs on: signals, threads, MLX's buffers, its cache folder, other packages installed."""
