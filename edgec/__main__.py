"""`python -m edgec`: the command line."""

from edgec.compiler.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
