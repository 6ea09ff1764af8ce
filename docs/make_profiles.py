"""Search the profiles of trained networks again: workloads/data/NAME/profile.json.

    python docs/make_profiles.py [--tolerance X] [--repair RULE] [NAME...]
    python docs/make_profiles.py --comparison [NAME...]

Models and inputs are fetched when they are not in the cache. A network takes seconds to many minutes.
With another tolerance than 0.01 the profile is called profile-X.json, with the other repair
profile-fewest.json: they show how much depends on it. With --comparison the profiles are called
profile-comparison.json: they are made as an independent measurement makes its own (docs/networks.md).
"""

from __future__ import annotations

import argparse
from time import monotonic

from dpred_sim.errors import InputError
from dpred_sim.workload.profile import Profile, write_profile
from dpred_sim.workload.profile_repair import REPAIRS
from dpred_sim.workload.trained.manifest import shipped
from dpred_sim.workload.trained.script import (
    TOLERANCE,
    comparison_path,
    make_comparison,
    make_profile,
    profile_path,
)


def made(name: str, given: argparse.Namespace) -> Profile:
    """The profile of one network, written to its place."""

    def report(line: str) -> None:
        print(f"  {line}", flush=True)

    if given.comparison:
        found, place = make_comparison(name, report), comparison_path(name)
    else:
        found = make_profile(name, report, given.tolerance, given.repair)
        place = profile_path(name, given.tolerance, given.repair)
    write_profile(place, found)
    return found


def main() -> None:
    """Make the profiles that the command line names."""
    parser = argparse.ArgumentParser(description="Search the profiles of trained networks again.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="change by one tensor")
    parser.add_argument("--repair", choices=REPAIRS, default=REPAIRS[0], help="what gets more bits")
    parser.add_argument("--comparison", action="store_true", help="as the independent measurement")
    given = parser.parse_args()
    models = shipped().models
    if given.comparison and (given.tolerance, given.repair) != (TOLERANCE, REPAIRS[0]):
        parser.error("--comparison has its own tolerance and repair")
    for name in given.names or [n for n in models if not given.comparison or models[n].comparison]:
        start = monotonic()
        try:
            found = made(name, given)
        except InputError as error:
            parser.error(str(error))
        took, changed = monotonic() - start, found.about["joint_error"]
        print(f"{name}: {took:.0f} s, output changed by {changed:.2%}", flush=True)


if __name__ == "__main__":
    main()
