"""Where work runs. Engines pass references to shards, never tables."""
