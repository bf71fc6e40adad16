"""The three ways to an optimal allocation: frontier, isoFLOP slices, surface."""
