"""Monitor: windows of a table beside a reference -> what drifts, alerts, rows to label, a page."""
