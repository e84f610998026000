"""A node: the shell that ticks partitions, the gate that admits commands, routing to owners."""
