"""How the demo's checkpoints were trained: `python -m pillsnap.demo.training`; not in the wheel."""
