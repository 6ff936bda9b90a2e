"""What is learnt and answered: one module a task, found by its name.

    task = task_class("classify")                          # the class in sparkml.tasks.classify
    options = task.Options(max_length=128)
    targets = task.fit(options, {"train": counts})         # labels, from counts over the training rows
    learner = task(options, targets, inputs)

A task says which columns it needs, how rows become samples (on Spark's workers), how samples become a batch, what the
network is and what its loss, how an answer follows and how it is measured. Trainer, scorer and stages know no task by
name. To add one: a module here, or an entry point of the group `sparkml.tasks`, with a subclass of `Task`.
"""
