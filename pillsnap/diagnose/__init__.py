"""Where and why a candidate differs from its reference."""
