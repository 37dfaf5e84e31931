"""`python -m kwik`: the command line."""

import sys

from kwik.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
