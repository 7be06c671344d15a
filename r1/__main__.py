"""`python -m r1` is the `r1` command."""

from r1.cli.app import main

if __name__ == "__main__":
    main()
