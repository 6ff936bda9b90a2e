# Databricks notebook source
# MAGIC %md
# MAGIC # Customer service
# MAGIC How sure the intents are, which score lets 95 of 100 known questions pass, and how often the right answer is found. Made by
# MAGIC `sparkml run-all --pipeline customers`. Set `sparkml.lake` in the Spark configuration, or run it beside a folder `lake`.

# COMMAND ----------

from pyspark.sql import functions as F

import sparkml

lake = sparkml.open_lake(spark.conf.get("sparkml.lake", "lake"), spark)

# COMMAND ----------

# MAGIC %md ## Figures of both models on held-out rows; those of a linear model and of BM25 begin with `baseline_`

# COMMAND ----------

for name in ("intents", "answers"):
    model = lake.model(name)
    print(model.name)
    for figure, value in sorted(dict(model.metrics).items()):
        print(f"  {figure:32} {value:.4f}")

# COMMAND ----------

# MAGIC %md ## The score for `sparkml serve ... scope=`: five of a hundred known questions are below it

# COMMAND ----------

intent = sparkml.register(spark, "intent", "intents", lake=lake)
known = lake.spark("intents_kept").where("split = 'test'").select("text", "label")
known = known if not known.isEmpty() else lake.spark("intents_kept").sample(0.1, seed=1).select("text", "label")
said = known.select("label", intent("text").alias("answer")).select("label", "answer.prediction", "answer.score")
said.agg(F.percentile("score", 0.05).alias("scope"), F.avg((F.col("label") == F.col("prediction")).cast("int"))).show()

# COMMAND ----------

# MAGIC %md ## The least sure questions

# COMMAND ----------

known.select("text", "label", intent("text").alias("answer")).orderBy("answer.score").select(
    "text", "label", "answer.prediction", "answer.score"
).show(15, truncate=80)
