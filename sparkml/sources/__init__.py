"""Where documents come from: files, the installed environment."""
