"""`python -m rs3d`: the command line."""

from rs3d.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
