"""A run: planned, run shard by shard, judged, reported."""
