"""Judge edits of validation songs, whose stems are known, without torch."""
