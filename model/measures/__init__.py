"""How near one thing is to another, in plain numpy: recordings, sets of them, and predictions."""
