"""`python -m chaosd`."""

from chaosd.cli import main

main()
