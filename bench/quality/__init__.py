"""`bench quality`: scores of edited clips."""
