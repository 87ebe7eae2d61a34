"""OpenVINO, as an engine."""
