"""Validation data -> samples and labels."""
