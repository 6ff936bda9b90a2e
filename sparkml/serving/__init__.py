"""A service over HTTP that answers with trained models; no Spark, no JVM.

A front process speaks HTTP and keeps the queue; one worker process a core holds the models and computes. See
`server.serve`.
"""
