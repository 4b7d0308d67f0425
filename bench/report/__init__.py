"""`bench report`: tables and plots from saved results."""
