"""Steps, pipelines, the ledger, tables and storage: what every stage is built on."""
