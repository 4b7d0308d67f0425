"""How far one model is from another: over given tokens, layer by layer, matrix by matrix, part by part."""
