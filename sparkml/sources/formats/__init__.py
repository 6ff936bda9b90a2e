"""One reader per format, and the table of all formats (`table`)."""
