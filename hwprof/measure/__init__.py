"""How an op is timed: protocol, visits, worker processes and the executor that owns them."""
