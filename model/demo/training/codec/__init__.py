"""Train a small codec of EnCodec's structure on rendered songs, and encode the songs with it."""
