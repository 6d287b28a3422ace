"""What SOLO, Decoupled SOLO and SOLOv2 share: every cell of a grid may be an object."""
