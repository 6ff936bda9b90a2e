"""Steps, pipelines, the ledger, tables and storage: what every stage stands on."""
