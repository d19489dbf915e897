"""Word n-gram language models: estimated from text, mixed, pruned, and asked while decoding."""
