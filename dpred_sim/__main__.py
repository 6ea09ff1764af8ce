"""`python -m dpred_sim`: the program `dpred-sim`."""

import sys

from dpred_sim.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
