"""Watching tables: how far a window of rows is from a reference, whether that is more than usual, and who is told."""
