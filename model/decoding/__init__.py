"""The steps of an edit, from a clip's codes and a sentence to the edited codes: windows, positions, tokens."""
