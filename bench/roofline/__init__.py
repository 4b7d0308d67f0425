"""`bench roofline`: what a chip's memory allows."""
