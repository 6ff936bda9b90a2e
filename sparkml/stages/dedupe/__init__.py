"""Dedupe: `clean` -> `kept` and `duplicates`; equal texts by hash, near ones by verified MinHash."""
