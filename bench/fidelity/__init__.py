"""`bench fidelity`: what a variant costs in the model's predictions."""
