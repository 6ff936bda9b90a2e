# Databricks notebook source
# MAGIC %md
# MAGIC # Product reviews
# MAGIC From stars to sentiment: precision, recall and F1 on held-out reviews, and the reviews that the model reads otherwise than
# MAGIC their stars say. Made by `sparkml run-all --pipeline stars`.
# MAGIC Set `sparkml.lake` in the Spark configuration, or run it beside a folder `lake`.

# COMMAND ----------

from pyspark.sql import functions as F

import sparkml

lake = sparkml.open_lake(spark.conf.get("sparkml.lake", "lake"), spark)

# COMMAND ----------

# MAGIC %md ## Held-out reviews: all, and each sentiment

# COMMAND ----------

figures = lake.spark("evaluations").where("step = 'stars'")
newest = figures.orderBy(F.desc("model_version")).select("run_id").first()[0]
figures.where(F.col("run_id") == newest).select("slice", "n", F.explode("metrics")).where(
    "key IN ('accuracy', 'macro_f1', 'precision', 'recall', 'f1')"
).groupBy("slice", "n").pivot("key").agg(F.first("value")).orderBy("slice").show(30, truncate=False)

# COMMAND ----------

# MAGIC %md ## Stars and words disagree

# COMMAND ----------

scores = lake.spark("scores").where("step = 'stars_score'").select("doc_id", "prediction", "score")
rows = lake.spark("stars_labelled").join(scores, "doc_id").where("prediction <> label")
rows.orderBy(F.desc("score")).select("label", "prediction", "score", "text").show(15, truncate=100)

# COMMAND ----------

# MAGIC %md ## Ask

# COMMAND ----------

sentiment = sparkml.register(spark, "sentiment", "stars", lake=lake)
spark.sql("SELECT sentiment('It broke after a week.').prediction AS said").show()
