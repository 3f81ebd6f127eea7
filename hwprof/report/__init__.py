"""A latency table for people: views of it, charts of the views, and one HTML page of all."""
