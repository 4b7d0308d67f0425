"""The measures of `bench quality` and `bench fidelity`, each a plain function of arrays."""
