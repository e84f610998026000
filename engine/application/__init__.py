"""What an application is: its manifest, its Avro schemas, its stored rows, what may change."""

from engine.application.types import Application

__all__ = ["Application"]
