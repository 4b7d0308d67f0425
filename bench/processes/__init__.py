"""Child processes that hold one column each."""
