"""What an audio file holds, whatever its header says: its parts, their true lengths, and who decodes them."""
