"""Train language model, adapter and T5 together to edit encoded songs as a sentence asks."""
