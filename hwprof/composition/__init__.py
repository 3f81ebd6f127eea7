"""From rows to the latency of a network: named models, fitted on networks that were measured."""
