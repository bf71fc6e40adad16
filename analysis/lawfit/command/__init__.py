"""The command `lawfit`: `cli` parses, `input` reads what was asked about, `law_verbs` and `budget_verbs` answer."""
