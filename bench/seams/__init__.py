"""`bench seams`: whether one hears where a window ends."""
