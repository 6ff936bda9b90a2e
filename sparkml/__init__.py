"""sparkml: from raw documents to scored tables on one Spark cluster."""

__version__ = "0.1.0"
