"""A bundle: its folder, names, tensors, codec and text encoder, local or from the Hub."""
