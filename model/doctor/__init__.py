"""Does this machine compute what it should? Every operation and a short edit on every backend, and a report."""
