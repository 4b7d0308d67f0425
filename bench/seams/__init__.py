"""`bench seams`: whether the ends of windows can be heard."""
