"""Share what SOLO, Decoupled SOLO and SOLOv2 have in common: grids whose cells predict objects."""
