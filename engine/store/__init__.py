"""Stores behind the `PartitionStore` port: RocksDB, and memory for tests and the simulator."""
