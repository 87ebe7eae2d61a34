"""The embedded demo: twenty-four drawn drugs, two small trained checkpoints, validation images.

Nothing is imported here, so that `import pillsnap.demo` costs nothing:

- `pillsnap.demo.render` draws photos and scenes of pills (Pillow and numpy only);
- `pillsnap.demo.dataset` writes the validation images and installs the checkpoints;
- `pillsnap.demo.training` retrains both checkpoints from nothing (torch, timm, ultralytics).
"""
