"""Loading of images and annotations: mappers, augmentations, samplers and data loaders."""
