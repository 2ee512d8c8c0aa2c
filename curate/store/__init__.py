"""Working memory (steps, snapshots, column files) and product (versions) on a POSIX disk."""
