"""The output of a run: tables, figures and pages, on the terminal and in files."""
