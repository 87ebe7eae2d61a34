"""The plugin: `pytest_plugins = ["pillsnap.plugin"]`, or `-p pillsnap.plugin`.

PYTEST_DONT_REWRITE: pytest would warn that it cannot where `pillsnap gate` has imported it before.
"""

pytest_plugins = ["pillsnap.plugin.header", "pillsnap.plugin.hooks"]
