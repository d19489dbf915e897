"""One module for each layout of folders that lhotse has no recipe for."""
