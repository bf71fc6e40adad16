"""Evaluation: validation loss, samples, and Fréchet distances."""
