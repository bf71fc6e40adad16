"""``python -m varscale``."""

from varscale.cli import main

if __name__ == "__main__":
    main()
