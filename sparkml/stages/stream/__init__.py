"""Stream: documents as they come, each scored once per model version, exactly once through any failure."""
