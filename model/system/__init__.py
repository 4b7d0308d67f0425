"""The system that the program runs on: signals, threads, its cache folder, and the packages installed beside it."""
