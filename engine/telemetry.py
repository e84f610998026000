"""Metric names, tracing and logs: set up once, read from `statistics()` objects."""
