"""`python -m data_prep` is `asr-prepare`."""

from data_prep.cli import main

main()
