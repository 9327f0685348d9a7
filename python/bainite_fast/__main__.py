"""``python -m bainite_fast``: the command line of this very interpreter."""

from .cli import main

if __name__ == "__main__":
    main()
