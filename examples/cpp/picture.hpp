// Pictures in memory, and reading them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

struct Picture {
    int height = 0;
    int width = 0;
    std::vector<std::uint8_t> pixels;  // [height, width, 3], red first

    std::uint8_t at(int y, int x, int channel) const {
        return pixels[(static_cast<std::size_t>(y) * width + x) * 3 + channel];
    }
};

// Reads a picture; without OpenCV only a binary PPM file of 8 bits.
// Throws std::runtime_error if it can't be read.
Picture read_picture(const std::string& path);
