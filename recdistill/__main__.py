"""`python -m recdistill` is the command line."""

from recdistill.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
