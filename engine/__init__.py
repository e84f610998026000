"""Partita: an event-sourcing engine on a message broker.

If you are here to read the code, start with `partition/processor.py` (the walk), then `ports.py`
(what it needs of the world), `partition/ownership.py` (why it is exactly once), and `assembly.py`
(how it is put together).
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
