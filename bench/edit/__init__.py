"""`bench edit`: a whole edit, stage by stage, fused beside reference."""
