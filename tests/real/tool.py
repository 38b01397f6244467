"""`qprof`, by the interpreter and from the tree that the suite runs in."""

import sys

from qprof.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
