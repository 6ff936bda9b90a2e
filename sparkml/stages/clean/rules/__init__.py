"""What `clean` can do with a document, one module a rule set: a block of its configuration, see `rule_set.RuleSet`."""
