"""Families of models whose scaling can be studied: what one provides, those there are, and where they are named."""
