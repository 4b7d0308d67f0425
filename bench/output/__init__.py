"""What a run shows: tables, figures and pages, on the terminal and in files."""
