"""The HTTP API over a node: commands in, queries out, problems explained."""
