# Databricks notebook source
# MAGIC %md
# MAGIC # Names in news and posts
# MAGIC Span F1 by kind, the most frequent names, and a text of your own. Made by `sparkml run-all --pipeline ner`.
# MAGIC Set `sparkml.lake` in the Spark configuration, or run it beside a folder `lake`.

# COMMAND ----------

from pyspark.sql import functions as F

import sparkml

lake = sparkml.open_lake(spark.conf.get("sparkml.lake", "lake"), spark)

# COMMAND ----------

# MAGIC %md ## Held-out sentences, by kind of name

# COMMAND ----------

figures = lake.spark("evaluations").where("step = 'ner'")
newest = figures.orderBy(F.desc("model_version")).select("run_id").first()[0]
figures.where(F.col("run_id") == newest).select("slice", "n", F.explode("metrics")).where(
    "key IN ('micro_f1', 'precision', 'recall', 'f1')"
).groupBy("slice", "n").pivot("key").agg(F.first("value")).orderBy("slice").show(30, truncate=False)

# COMMAND ----------

# MAGIC %md ## The most frequent names

# COMMAND ----------

found = lake.spark("scores").where("step = 'ner_score'").select("doc_id", F.explode("spans").alias("span"))
texts = lake.spark("ner_kept").select("doc_id", "text")
names = found.join(texts, "doc_id").select(
    "span.label", F.expr("substring(text, span.start + 1, span.end - span.start)").alias("name")
)
names.groupBy("label", "name").count().orderBy(F.desc("count"), "label", "name").show(20, truncate=False)

# COMMAND ----------

# MAGIC %md ## A text of your own

# COMMAND ----------

scorer = sparkml.load_scorer(lake.model("ner").path)
for answer in scorer.answer(tokens=["Angela Merkel met Apple 's Tim Cook in Berlin".split()]):
    print(answer.spans)
