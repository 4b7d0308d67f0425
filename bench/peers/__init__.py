"""`bench peers`: a decode step beside other implementations."""
