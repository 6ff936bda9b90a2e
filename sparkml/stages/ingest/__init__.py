"""Source files -> `bronze`, one row per record, without loss: what cannot be a document becomes a reject.

The driver lists the files (`sources.listing`, `sources.environment`) and cuts them into splits (`sources.splits`).
Tasks read splits (`sources.reader`), with one reader a format (`sources.formats.table`), and build rows
(`sources.documents`).
"""
