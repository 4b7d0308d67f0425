"""Checks of a kernel's text alone: words that Metal lacks, recursion, pointers into the wrong address space."""
