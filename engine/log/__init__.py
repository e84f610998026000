"""Logs behind the ports: embedded for one machine, simulated for tests, Kafka for the rest."""
