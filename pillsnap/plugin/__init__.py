"""The plugin: `pytest_plugins = ["pillsnap.plugin"]`, or `-p pillsnap.plugin`."""

pytest_plugins = ["pillsnap.plugin.header", "pillsnap.plugin.hooks"]
