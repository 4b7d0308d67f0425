"""From upstream's checkpoints to a bundle."""
