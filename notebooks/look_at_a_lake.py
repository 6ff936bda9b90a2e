# Databricks notebook source
# MAGIC %md
# MAGIC # Look at a lake
# MAGIC What the steps did, what was rejected and why, which documents are duplicates, and what the model said.
# MAGIC Set `sparkml.lake` in the Spark configuration, or run it beside a folder `lake`.

# COMMAND ----------

from pyspark.sql import functions as F

import sparkml

lake = sparkml.open_lake(spark.conf.get("sparkml.lake", "lake"), spark)

# COMMAND ----------

# MAGIC %md ## Runs

# COMMAND ----------

columns = ("step", "stage", "status", "rows_in", "rows_kept", "rows_rejected", "seconds")
lake.spark("_runs").orderBy("started_at").select(*columns).show(50, truncate=False)
newest = {run.step: run.run_id for run in lake.runs()}

# COMMAND ----------

# MAGIC %md ## Rejects by reason

# COMMAND ----------

reasons = lake.spark("rejects").groupBy("step", "drop_reason").agg(F.count("*").alias("documents"))
reasons.orderBy(F.desc("documents"), "step", "drop_reason").show(50, truncate=False)

# COMMAND ----------

# MAGIC %md ## Near duplicates, the least similar first

# COMMAND ----------

near = lake.spark("duplicates").where("kind = 'near'").orderBy("similarity", "doc_id")
near.select("doc_id", "partner_id", "similarity").show(10, truncate=False)

# COMMAND ----------

# MAGIC %md ## Models, and the predictions that they were least sure of

# COMMAND ----------

for model in lake.models():
    print(model.name, model.kind, model.parent or "", dict(model.metrics))
unsure = lake.spark("scores").where("error IS NULL").orderBy("score", "doc_id")
unsure.select("step", "doc_id", "prediction", "score").show(10, truncate=False)

# COMMAND ----------

# MAGIC %md ## Ask a model: the same function for SQL and DataFrames

# COMMAND ----------

sparkml.register(spark, "topic_of", "classifier", lake=lake)
lake.spark("kept").limit(5).createOrReplaceTempView("some")
spark.sql("SELECT doc_id, answer.prediction, answer.score FROM (SELECT doc_id, topic_of(text) AS answer FROM some)").show()
