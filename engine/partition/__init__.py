"""One partition: the walk, who owns it, how it recovers. Synchronous, no I/O but through ports."""
