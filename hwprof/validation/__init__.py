"""Whole networks, measured: what compositions are fitted on, and what says how good a table is."""
