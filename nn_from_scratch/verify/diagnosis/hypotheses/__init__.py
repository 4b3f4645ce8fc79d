"""What a wrong gradient may be."""
