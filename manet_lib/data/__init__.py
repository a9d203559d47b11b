"""Images, masks and manifests: from a source on disk to augmented pairs."""
