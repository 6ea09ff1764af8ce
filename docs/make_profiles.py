"""Search the profiles of trained networks again: workloads/data/NAME/profile.json.

    python docs/make_profiles.py [--tolerance X] [--repair RULE] [NAME...]

Models and inputs are fetched when they are not in the cache. A network takes seconds to many minutes.
With another tolerance than 0.01 the profile is called profile-X.json, with the other repair
profile-fewest.json: they show how much depends on it.
"""

from __future__ import annotations

import argparse
from time import monotonic

from dpred_sim.workload.profile import write_profile
from dpred_sim.workload.profile_repair import REPAIRS
from dpred_sim.workload.trained.manifest import shipped
from dpred_sim.workload.trained.script import TOLERANCE, make_profile, profile_path


def main() -> None:
    """Make the profiles that the command line names."""
    parser = argparse.ArgumentParser(description="Search the profiles of trained networks again.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="change by one tensor")
    parser.add_argument("--repair", choices=REPAIRS, default=REPAIRS[0], help="what gets more bits")
    given = parser.parse_args()
    for name in given.names or shipped().names:
        start = monotonic()
        found = make_profile(name, lambda line: print(f"  {line}", flush=True), given.tolerance, given.repair)
        write_profile(profile_path(name, given.tolerance, given.repair), found)
        took, changed = monotonic() - start, found.about["joint_error"]
        print(f"{name}: {took:.0f} s, output changed by {changed:.2%}", flush=True)


if __name__ == "__main__":
    main()
