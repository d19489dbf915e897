"""`python -m serve`: the command asr-serve."""

from serve.cli import main

main()
