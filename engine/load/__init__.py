"""Recorded traffic as a load test: record, replay, report."""
