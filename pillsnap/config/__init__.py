"""config.yaml, environment and .env -> a frozen Config."""
