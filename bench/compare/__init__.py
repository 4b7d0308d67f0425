"""`bench compare`: two saved results, changes told from noise."""
