"""The stage `compress`: recipes of methods, what each makes of a model measured, and a gate that answers must pass."""
