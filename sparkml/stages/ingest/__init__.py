"""Source files -> `bronze`, one row a record, without loss: what cannot be a document becomes a reject.

The driver lists the files (`listing`, `environment`) and cuts them into splits (`splits`). Tasks read splits
(`reader`), with one reader a format (`json_lines`, `delimited`, `parquet`, `plain_text`, `docstrings`), and
build rows (`documents`).
"""
