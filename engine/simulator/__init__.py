"""A cluster in one thread from one seed: the shipped core on simulated ports, and its auditor."""
