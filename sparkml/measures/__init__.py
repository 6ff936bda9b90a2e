"""How good a model is: figures from gold values and answers, in numpy alone.

`evaluate_labels` (in `label_evaluation`), `evaluate_multilabel`, `evaluate_numbers` and `evaluate_tags` make an
`Evaluation`: metrics, their intervals, slices, figures of every label, confusion, calibration, the worst mistakes.

    evaluation = evaluate_labels(gold, probabilities, ["ham", "spam"], doc_ids, slices={"lang": languages})
    evaluation.metrics["macro_f1"], evaluation.intervals["macro_f1"].low
    evaluation.metric_rows()  # [("all", {...}, 1000), ("lang=de", {...}, 120), ...]

The parts can be used alone: counts of labels and spans are sums, so that batches may be added. This file imports
nothing, so that a stage's fingerprint holds only the measures that it uses.
"""
