// Resizing of pictures before the network, and of masks after it.
#pragma once

#include <utility>
#include <vector>

#include "picture.hpp"

using Size = std::pair<int, int>;  // height, width

// Returns the size of a picture whose shorter side becomes `short_edge`, unless the longer side
// would exceed `max_size` (detectron2's ResizeShortestEdge).
Size shortest_edge_size(Size size, int short_edge, int max_size);

// Returns the greatest size with the same proportions within `limit`.
Size fitting_size(Size size, Size limit);

// Returns a size padded to multiples of `step`.
Size padded_size(Size size, int step);

// Resizes exactly as Pillow's BILINEAR does: where the picture shrinks, every pixel that a new one
// covers contributes to it. A model sees other pictures through a resize that differs.
Picture resize_picture(const Picture& picture, Size size);

// Resizes bilinearly in fixed point, as OpenCV does.
Picture resize_like_opencv(const Picture& picture, Size size);

struct Mask {
    int height = 0;
    int width = 0;
    std::vector<float> values;  // probabilities, row by row
};

// Resizes bilinearly between the nearest two values along each axis; pixels' centres are at halves.
Mask resize_mask(const Mask& mask, Size size);

// Returns the upper left part of a mask.
Mask crop(const Mask& mask, Size size);
