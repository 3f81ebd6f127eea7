"""The search engine: from a supernet and a table to a trained network whose latency was measured."""
