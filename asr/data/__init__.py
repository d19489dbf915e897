"""Manifests, datasets, batches and augmentation."""
