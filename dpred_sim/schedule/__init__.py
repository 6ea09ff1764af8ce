"""From steps to passes: placement, residency, loop order."""
