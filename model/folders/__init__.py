"""Many files: what is to be done, by whom, in which batches, and the table of what was done."""
