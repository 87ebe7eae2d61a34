"""torch: checkpoints read safely, networks, the reference."""
