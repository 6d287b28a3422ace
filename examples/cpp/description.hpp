// What an exported folder's model.json says of its model.
#pragma once

#include <string>
#include <vector>

struct Description {
    std::string model;           // path of the ONNX file
    bool rgb;                    // whether red comes first in the input; otherwise blue
    bool as_opencv;              // how pictures are resized; otherwise as Pillow does
    int short_edge;              // that pictures are resized to; 0 keeps their size
    int max_size;                // the greatest length of the longer side
    std::vector<int> size;       // height and width of the padded input; empty for any
    int divisibility;            // sides of the padded input are multiples of this
    int batch;                   // images in one run; 0 for any number
    std::vector<float> padding;  // one value for each channel
    float score_threshold;       // an input of the graph
    float mask_threshold;        // a pixel is in a mask if its probability is greater
    float keep;                  // the lowest score of a result
    std::vector<std::string> classes;
};

// Reads model.json. Throws std::runtime_error if it is missing, or needs what this example lacks.
Description read_description(const std::string& folder);
