"""From a specification to runs with every number resolved, in pure Python."""
