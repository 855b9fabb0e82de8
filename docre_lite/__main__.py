"""`python -m docre_lite`: the command line without its script."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
