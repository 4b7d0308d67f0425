"""Several edits of one clip in one batch, told apart by scores that need no download, or by CLAP."""
