"""Score: every document of a table, once per model version."""
