"""How near one thing is to another: recordings, sets of them, and predictions."""
