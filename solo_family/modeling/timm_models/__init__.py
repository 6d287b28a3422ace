"""Make timm's models of every kind give one feature map per stride, for images of any size.

- `names`: names and pretrained tags.
- `probe`: how a model has to be built, and its input padded, so that it takes images of any size.
- `network`: build it.
- `swin`, `hiera`: models of which timm's code needs a change for that.
- `strides`: maps at the promised strides, of models whose own maps are elsewhere.
- `pyramid`: the simple feature pyramid of ViTDet, for transformers with a single map.
- `weights`: checkpoints.
"""
