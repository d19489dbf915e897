"""The languages that clients speak, one module each."""
