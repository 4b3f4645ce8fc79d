"""The engine beside torch: the one folder that knows both."""
