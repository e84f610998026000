"""Audits: do the promises hold between the topics and the stores? Reads only."""
