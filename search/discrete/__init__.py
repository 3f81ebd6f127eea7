"""Search over whole networks: objectives that need no gradient, a Pareto archive, TND-NAS and what it is
compared with."""
