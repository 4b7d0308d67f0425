"""`bench tune`: the fastest settings of a backend on this machine."""
