"""The state host in C: its sources, how they are compiled, and the module that comes of it."""
