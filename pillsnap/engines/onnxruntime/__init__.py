"""ONNX Runtime: sessions, their providers and options, where nodes ran."""
