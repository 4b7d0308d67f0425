"""What a kernel's text alone shows: words that Metal lacks, recursion, pointers into the wrong address space."""
