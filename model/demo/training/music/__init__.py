"""Compose small-band songs for drums, bass, piano and guitar, and render them with two MIT-licensed soundfonts."""
