"""The numerical derivative: estimates with their own error, kinks, single entries, special points."""
