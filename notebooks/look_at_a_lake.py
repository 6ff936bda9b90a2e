# Databricks notebook source
# MAGIC %md
# MAGIC # Look at a lake
# MAGIC What the stages did, what was rejected and why, which documents are duplicates, and what the model said.
# MAGIC Set `sparkml.lake` in the Spark configuration, or run it beside a folder `lake`.

# COMMAND ----------

from pyspark.sql import functions as F

from sparkml.frame.runs import RunLedger
from sparkml.frame.tables import Tables

tables = Tables(spark, spark.conf.get("sparkml.lake", "lake"))

# COMMAND ----------

# MAGIC %md ## Runs

# COMMAND ----------

runs = tables.read("_runs").orderBy("started_at")
runs.select("stage", "status", "rows_in", "rows_kept", "rows_rejected", "seconds").show(50, truncate=False)
newest = {row["stage"]: row["run_id"] for row in RunLedger(spark, tables).rows()}

# COMMAND ----------

# MAGIC %md ## Rejects by reason

# COMMAND ----------

reasons = tables.read("rejects").groupBy("stage", "drop_reason").agg(F.count("*").alias("documents"))
reasons.orderBy(F.desc("documents"), "stage", "drop_reason").show(50, truncate=False)

# COMMAND ----------

# MAGIC %md ## Near duplicates, the least similar first

# COMMAND ----------

near = tables.read("duplicates").where("kind = 'near'").orderBy("similarity", "doc_id")
near.select("doc_id", "partner_id", "similarity").show(10, truncate=False)

# COMMAND ----------

# MAGIC %md ## Predictions the model was least sure of

# COMMAND ----------

unsure = tables.read("scores").where("error IS NULL").orderBy("score", "doc_id")
unsure.select("doc_id", "prediction", "score").show(10, truncate=False)
