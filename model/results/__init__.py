"""What comes out of an edit, and what it says of itself: in a file's tags, at the command line, in a notebook."""
