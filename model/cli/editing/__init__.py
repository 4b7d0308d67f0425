"""What `edit` does for each way of calling it: one file, many, several candidates, or guided by the input."""
