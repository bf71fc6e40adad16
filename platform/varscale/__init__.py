"""varscale: find out how a VAR image generator scales before you spend the money."""

__version__ = "0.1.0"
