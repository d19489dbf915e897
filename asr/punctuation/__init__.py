"""Case and punctuation of words: labels, network, training, export, restoring."""
