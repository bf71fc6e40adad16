"""The command ``lawfit``."""
