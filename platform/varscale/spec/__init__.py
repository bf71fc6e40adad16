"""What a user may write: studies and tokenizers as YAML, every field checked."""
