"""The command line, one module per group of verbs."""

__all__ = ["main"]


def main() -> None:
    """Run the command line; see `recdistill.cli.app.main`."""
    from recdistill.cli.app import main as run

    run()
