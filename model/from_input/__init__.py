"""Keep the original's sound: two opposite edits guide a mask over the original's own spectrum (Only and No)."""
