"""The tests; a package, so that what several of them share can be imported by name."""
