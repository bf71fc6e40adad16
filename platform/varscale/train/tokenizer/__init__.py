"""The training of one tokenizer."""
