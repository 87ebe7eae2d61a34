"""The gate's own mutation score: faults injected into healthy exports, and whether it sees them."""
