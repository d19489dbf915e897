"""What benchmarks/serve.py is made of: clients that behave, and others that do not."""
