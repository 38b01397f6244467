"""`python -m qprof`: the command line, by a chosen interpreter."""

import sys

from qprof.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
