"""Measurements that a user can repeat: `partita bench CASE`, a module per case.

A case runs the shipped engine on real logs and stores, and returns plain data; `machine` says where
it was measured. Owns nothing of the engine, and no bar is written here: the README has those.
"""
