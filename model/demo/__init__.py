"""The demo: its bundle, its clip, and the recipe that trains it."""
