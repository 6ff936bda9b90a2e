"""Where `ingest` reads: files, the installed environment, tables, databases, topics; one module each."""
