"""Known texts against log-probabilities: how probable they are, and when each token is said."""
