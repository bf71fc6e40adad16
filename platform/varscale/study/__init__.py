"""A study as a whole: resources, the run over its cells, status and report."""
