"""A small neural-network engine that works without the autograd engine."""
