"""`chaosd`, and `python -m chaosd`."""

import sys


def main() -> None:
    """Run a command; a Ctrl-C while its modules are still being loaded ends it as orderly as any later one."""
    try:
        from chaosd import cli

        cli.main()
    except KeyboardInterrupt:
        sys.stderr.write("chaosd: ended by SIGINT: nothing was disturbed\n")
        sys.exit(4)


if __name__ == "__main__":
    main()
