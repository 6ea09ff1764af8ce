"""Sources of workloads: one file a kind of source."""
