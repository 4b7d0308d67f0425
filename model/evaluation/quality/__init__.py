"""What edits sound like: clips edited with every variant, and scored."""
