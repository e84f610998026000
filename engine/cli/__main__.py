"""`python -m engine.cli` is `partita`."""

from engine.cli.main import main

main()
