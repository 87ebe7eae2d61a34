"""The plugin: `pytest_plugins = ["pillsnap.plugin"]`, or `-p pillsnap.plugin`."""

pytest_plugins = ["pillsnap.plugin.hooks"]
