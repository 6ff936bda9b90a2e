# Databricks notebook source
# MAGIC %md
# MAGIC # Market mood
# MAGIC Headlines by hour and topic: sentiment, what swung, and how that was told. Made by `sparkml run-all --pipeline market`.
# MAGIC Set `sparkml.lake` in the Spark configuration, or run it beside a folder `lake`.

# COMMAND ----------

from pyspark.sql import functions as F

import sparkml

lake = sparkml.open_lake(spark.conf.get("sparkml.lake", "lake"), spark)
signals = lake.spark("monitored").where("step = 'market'")

# COMMAND ----------

# MAGIC %md ## Sentiment by hour: shares of the predictions, of all headlines and by topic

# COMMAND ----------

shares = signals.where("signal = 'prediction'").select(
    "window_start", "slice", "n", F.map_filter("statistics", lambda name, _: name.startswith("share ")).alias("shares")
)
shares.orderBy(F.desc("window_start"), "slice").show(24, truncate=False)

# COMMAND ----------

# MAGIC %md ## What is unusual, and what was told

# COMMAND ----------

alarms = signals.where("alarm").select("window_start", "slice", "signal", "value", "threshold", "detail")
alarms.orderBy(F.desc("window_start"), "slice", "signal").show(20, truncate=False)
if "alerts" in lake.tables():
    alerts = lake.spark("alerts").where("step = 'market'").orderBy(F.desc("window_start"), "slice", "signal")
    alerts.select("window_start", "state", "slice", "signal", "detail").show(20, truncate=False)

# COMMAND ----------

# MAGIC %md ## Headlines of the last window with an alarm

# COMMAND ----------

last = alarms.agg(F.max("window_start").alias("start"))
rows = lake.spark("headlines").join(last, F.col("published") >= F.col("start"))
tone = lake.spark("scores").where("step = 'headlines_tone'").select("doc_id", "prediction", "score")
rows.join(tone, "doc_id").orderBy("published").select("published", "prediction", "score", "text").show(20, truncate=80)
