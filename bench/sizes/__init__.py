"""Synthetic bundles of the published sizes."""
