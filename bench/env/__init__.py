"""`bench env`: versions and hardware, to paste into a report."""
