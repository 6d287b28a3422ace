// Finds the instances of a picture with an exported model and OpenVINO, and prints them:
//
//     segment FOLDER PICTURE
//
// One line for each, with tabs: class, score, box (x0 y0 x1 y1 in pixels, ends exclusive), the area
// of the mask in pixels. They are those of solo_family/export/runtime.py with engine="openvino".
#include <algorithm>
#include <cstdio>
#include <exception>
#include <openvino/openvino.hpp>
#include <stdexcept>
#include <string>

#include "description.hpp"
#include "picture.hpp"
#include "resize.hpp"

namespace {

// The sizes of one picture: of the network's padded input, of the picture in it, of the picture.
struct Sizes {
    Size padded, image, output;
};

Sizes sizes_of(const Description& model, Size output) {
    if (model.size.empty()) {
        const Size image = shortest_edge_size(output, model.short_edge, model.max_size);
        return {padded_size(image, model.divisibility), image, output};
    }
    const Size padded{model.size[0], model.size[1]};
    return {padded, fitting_size(output, padded), output};
}

// Returns [B, 3, height, width], 0 to 255: the picture in the model's order of colours, padded on
// the right and below. The graph normalises it.
ov::Tensor to_input(const Description& model, const Picture& picture, const Sizes& sizes) {
    const auto [height, width] = sizes.padded;
    const auto batch = static_cast<std::size_t>(std::max(model.batch, 1));
    ov::Tensor tensor(ov::element::f32, {batch, 3, static_cast<std::size_t>(height),
                                         static_cast<std::size_t>(width)});
    float* to = tensor.data<float>();
    const Picture resized = model.as_opencv ? resize_like_opencv(picture, sizes.image)
                                            : resize_picture(picture, sizes.image);
    for (std::size_t image = 0; image < batch; ++image) {
        for (int channel = 0; channel < 3; ++channel) {
            const int source = model.rgb ? channel : 2 - channel;
            for (int y = 0; y < height; ++y) {
                for (int x = 0; x < width; ++x) {
                    const bool inside = y < resized.height && x < resized.width;
                    *to++ = inside ? resized.at(y, x, source) : model.padding[channel];
                }
            }
        }
    }
    return tensor;
}

// Prints an instance: its mask is resized to the padded input, cropped, and resized to the picture.
void print(const Description& model, int category, float score, const Mask& mask,
           const Sizes& sizes) {
    const Mask image = crop(resize_mask(mask, sizes.padded), sizes.image);
    const Mask whole = resize_mask(image, sizes.output);
    int x0 = whole.width, y0 = whole.height, x1 = 0, y1 = 0;
    long area = 0;
    for (int y = 0; y < whole.height; ++y) {
        for (int x = 0; x < whole.width; ++x) {
            const float value = whole.values[static_cast<std::size_t>(y) * whole.width + x];
            if (value <= model.mask_threshold) continue;
            ++area;
            x0 = std::min(x0, x), x1 = std::max(x1, x + 1);
            y0 = std::min(y0, y), y1 = std::max(y1, y + 1);
        }
    }
    if (area == 0) x0 = y0 = 0;
    const char* name = model.classes.at(category).c_str();
    std::printf("%s\t%.4f\t%d\t%d\t%d\t%d\t%ld\n", name, score, x0, y0, x1, y1, area);
}

void segment(const std::string& folder, const std::string& path) {
    const Description model = read_description(folder);
    const Picture picture = read_picture(path);
    const Sizes sizes = sizes_of(model, {picture.height, picture.width});

    ov::Core core;
    // By default OpenVINO computes in bfloat16 where the CPU can, which changes what is found.
    ov::CompiledModel compiled =
        core.compile_model(model.model, "CPU", ov::hint::inference_precision(ov::element::f32),
                           ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY));
    ov::InferRequest request = compiled.create_infer_request();
    ov::Tensor threshold(ov::element::f32, ov::Shape{});
    *threshold.data<float>() = model.score_threshold;
    request.set_tensor("images", to_input(model, picture, sizes));
    request.set_tensor("score_threshold", threshold);
    request.infer();

    const ov::Tensor scores = request.get_tensor("scores"), classes = request.get_tensor("classes");
    const ov::Tensor masks = request.get_tensor("masks");  // [B, N, h, w], probabilities
    const int height = static_cast<int>(masks.get_shape()[2]);
    const int width = static_cast<int>(masks.get_shape()[3]);
    const std::size_t pixels = static_cast<std::size_t>(height) * width;
    for (std::size_t number = 0; number < scores.get_shape()[1]; ++number) {
        const float score = scores.data<float>()[number];
        if (score <= 0 || score < model.keep) continue;
        const float* first = masks.data<float>() + number * pixels;
        const auto category = static_cast<int>(classes.data<std::int64_t>()[number]);
        print(model, category, score, {height, width, {first, first + pixels}}, sizes);
    }
}

}  // namespace

int main(int count, char** words) {
    if (count != 3) {
        std::fprintf(stderr, "usage: segment FOLDER PICTURE\n");
        return 2;
    }
    try {
        segment(words[1], words[2]);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "segment: %s\n", error.what());
        return 1;
    }
    return 0;
}
