"""Every kept document is scored once per model version."""
