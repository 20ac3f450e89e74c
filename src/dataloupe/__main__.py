"""``python -m dataloupe``: the command line."""

from dataloupe.cli import main

if __name__ == "__main__":
    main()
