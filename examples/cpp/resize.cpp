#include "resize.hpp"

#include <algorithm>
#include <cmath>

namespace {

constexpr int kBits = 22;  // Pillow's fixed-point precision for 8 bits

int rounded(double value) { return static_cast<int>(value + 0.5); }

// The old pixels that contribute to a new one, from `first` on, and their weights.
struct Taps {
    int first;
    std::vector<int> weights;  // in fixed point
};

std::vector<Taps> pillow_taps(int before, int after) {
    const double scale = static_cast<double>(before) / after, support = std::max(scale, 1.0);
    std::vector<Taps> result;
    for (int place = 0; place < after; ++place) {
        const double center = (place + 0.5) * scale;
        const int first = std::max(static_cast<int>(center - support + 0.5), 0);
        const int last = std::min(static_cast<int>(center + support + 0.5), before);
        std::vector<double> weights;
        double sum = 0;
        for (int index = first; index < last; ++index) {
            weights.push_back(std::max(1 - std::abs(index - center + 0.5) / support, 0.0));
            sum += weights.back();
        }
        Taps taps{first, {}};
        for (const double weight : weights) {
            taps.weights.push_back(static_cast<int>(std::floor(weight / sum * (1 << kBits) + 0.5)));
        }
        result.push_back(taps);
    }
    return result;
}

// Resizes one axis: `after` entries of `inner` bytes each, for each of `outer` blocks.
std::vector<std::uint8_t> resize_axis(const std::vector<std::uint8_t>& pixels, int outer,
                                      int before, int after, int inner) {
    if (before == after) return pixels;
    const auto taps = pillow_taps(before, after);
    std::vector<std::uint8_t> result(static_cast<std::size_t>(outer) * after * inner);
    for (int block = 0; block < outer; ++block) {
        for (int place = 0; place < after; ++place) {
            const auto& [first, weights] = taps[place];
            const auto* from = &pixels[(static_cast<std::size_t>(block) * before + first) * inner];
            auto* to = &result[(static_cast<std::size_t>(block) * after + place) * inner];
            for (int offset = 0; offset < inner; ++offset) {
                int total = 1 << (kBits - 1);
                for (std::size_t tap = 0; tap < weights.size(); ++tap) {
                    total += from[tap * inner + offset] * weights[tap];
                }
                to[offset] = static_cast<std::uint8_t>(std::clamp(total >> kBits, 0, 255));
            }
        }
    }
    return result;
}

// For each new place, the first of the two old ones between which it lies, and the second's weight.
std::vector<std::pair<int, float>> neighbours(int before, int after) {
    std::vector<std::pair<int, float>> result;
    const double scale = static_cast<double>(before) / after;
    for (int place = 0; place < after; ++place) {
        const float position = static_cast<float>((place + 0.5) * scale - 0.5);
        const int first = static_cast<int>(std::floor(position));
        if (first < 0) {
            result.emplace_back(0, 0.0F);
        } else if (first >= before - 1) {
            result.emplace_back(before - 1, 0.0F);
        } else {
            result.emplace_back(first, position - static_cast<float>(first));
        }
    }
    return result;
}

}  // namespace

Size shortest_edge_size(Size size, int short_edge, int max_size) {
    if (short_edge == 0) return size;
    const auto [height, width] = size;
    const int least = std::min(height, width);
    const double scale = static_cast<double>(short_edge) / least;
    double edges[2];
    for (int axis = 0; axis < 2; ++axis) {
        const int side = axis == 0 ? height : width;
        edges[axis] = side == least ? short_edge : scale * side;
    }
    const double shrink = std::min(1.0, max_size / std::max(edges[0], edges[1]));
    return {std::max(1, rounded(edges[0] * shrink)), std::max(1, rounded(edges[1] * shrink))};
}

Size fitting_size(Size size, Size limit) {
    const double scale = std::min(static_cast<double>(limit.first) / size.first,
                                  static_cast<double>(limit.second) / size.second);
    return {std::min(limit.first, std::max(1, rounded(size.first * scale))),
            std::min(limit.second, std::max(1, rounded(size.second * scale)))};
}

Size padded_size(Size size, int step) {
    return {(size.first + step - 1) / step * step, (size.second + step - 1) / step * step};
}

Picture resize_picture(const Picture& picture, Size size) {
    const auto [height, width] = size;
    // Columns first, as Pillow.
    const auto columns = resize_axis(picture.pixels, picture.height, picture.width, width, 3);
    return {height, width, resize_axis(columns, 1, picture.height, height, width * 3)};
}

Picture resize_like_opencv(const Picture& picture, Size size) {
    const auto [height, width] = size;
    if (picture.height == height && picture.width == width) return picture;
    Picture result{height, width, {}};
    result.pixels.reserve(static_cast<std::size_t>(height) * width * 3);
    const double scale = static_cast<double>(picture.height) / height;
    const auto columns = neighbours(picture.width, width);
    const auto fixed = [](float weight) { return static_cast<int>(std::lrint(weight * 2048)); };
    const bool halved = picture.height == 2 * height && picture.width == 2 * width;
    for (int y = 0; y < height; ++y) {
        // Unlike columns, rows keep their weights at the border, where both are the same row.
        const float position = static_cast<float>((y + 0.5) * scale - 0.5);
        const int first = static_cast<int>(std::floor(position));
        const float lower = position - static_cast<float>(first);
        const int row = std::max(first, 0), below = std::min(first + 1, picture.height - 1);
        for (const auto& [column, right] : columns) {
            const int next = std::min(column + 1, picture.width - 1);
            for (int channel = 0; channel < 3; ++channel) {
                const int a = picture.at(row, column, channel), b = picture.at(row, next, channel);
                const int c = picture.at(below, column, channel);
                const int d = picture.at(below, next, channel);
                const int upper_value = a * fixed(1 - right) + b * fixed(right);
                const int lower_value = c * fixed(1 - right) + d * fixed(right);
                const int total = ((fixed(1 - lower) * (upper_value >> 4)) >> 16) +
                                  ((fixed(lower) * (lower_value >> 4)) >> 16);
                const int value = halved ? (a + b + c + d + 2) >> 2 : (total + 2) >> 2;
                result.pixels.push_back(static_cast<std::uint8_t>(value));
            }
        }
    }
    return result;
}

Mask resize_mask(const Mask& mask, Size size) {
    const auto [height, width] = size;
    if (mask.height == height && mask.width == width) return mask;
    const auto rows = neighbours(mask.height, height), columns = neighbours(mask.width, width);
    Mask result{height, width, std::vector<float>(static_cast<std::size_t>(height) * width)};
    auto to = result.values.begin();
    for (const auto& [row, lower] : rows) {
        const float* above = &mask.values[static_cast<std::size_t>(row) * mask.width];
        const float* below = row + 1 < mask.height ? above + mask.width : above;
        for (const auto& [column, right] : columns) {
            const int next = std::min(column + 1, mask.width - 1);
            const float upper_value = above[column] * (1 - right) + above[next] * right;
            const float lower_value = below[column] * (1 - right) + below[next] * right;
            *to++ = upper_value * (1 - lower) + lower_value * lower;
        }
    }
    return result;
}

Mask crop(const Mask& mask, Size size) {
    Mask result{size.first, size.second, {}};
    for (int y = 0; y < size.first; ++y) {
        const auto row = mask.values.begin() + static_cast<std::ptrdiff_t>(y) * mask.width;
        result.values.insert(result.values.end(), row, row + size.second);
    }
    return result;
}
