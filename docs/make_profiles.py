"""Search the profiles of trained networks again: workloads/data/NAME/profile.json.

python docs/make_profiles.py NAME...

Models and inputs are fetched when they are not in the cache. A network takes seconds to many minutes.
"""

from __future__ import annotations

import sys
from time import monotonic

from dpred_sim.workload.profile import write_profile
from dpred_sim.workload.trained.manifest import shipped
from dpred_sim.workload.trained.script import make_profile, profile_path


def main(names: list[str]) -> None:
    """Make the profiles of the models `names`."""
    for name in names or shipped().names:
        start = monotonic()
        found = make_profile(name, report=lambda line, name=name: print(f"{name}: {line}", flush=True))
        write_profile(profile_path(name), found)
        print(f"{name}: {monotonic() - start:.0f} s, output changed by {found.about['joint_error']:.2%}")


if __name__ == "__main__":
    main(sys.argv[1:])
