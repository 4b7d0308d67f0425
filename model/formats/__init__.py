"""File formats of checkpoints and bundles, read without running any code in them, and written."""
