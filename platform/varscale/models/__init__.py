"""The model: multi-scale VQVAE and VAR transformer, in torch alone."""
