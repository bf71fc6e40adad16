"""The training of one cell of the grid."""
