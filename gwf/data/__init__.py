"""Data sets: those that come with the repository, toys in the plane, and readers of published files."""
