#include "description.hpp"

#include <fstream>
#include <sstream>
#include <stdexcept>

#include "json.hpp"

namespace {

void require(bool condition, const std::string& message) {
    if (!condition) throw std::runtime_error(message);
}

Json read(const std::string& path) {
    std::ifstream file(path);
    require(file.good(), path + " can't be read: name a folder that `export` wrote");
    std::ostringstream text;
    text << file.rdbuf();
    return parse_json(text.str());
}

}  // namespace

Description read_description(const std::string& folder) {
    const Json json = read(folder + "/model.json");
    const Json& input = json.at("input");
    const std::string color = input.at("color").text;
    require(json.at("format").text == "onnx", "the model is not ONNX: export with --format onnx");
    require(json.at("task").text == "instances",
            "this example is for SOLO, Decoupled SOLO, SOLOv2 and SparseInst; the model is " +
                json.at("method").text);
    require(!json.has("results"), "this example does not merge panoptic segments");
    require(color == "RGB" || color == "BGR",
            "the model takes " + color + ", not pictures in colour");
    Description result{};
    result.model = folder + "/" + json.at("file").text;
    result.rgb = color == "RGB";
    result.as_opencv = input.has("resize") && input.at("resize").text == "cv2";
    result.short_edge = static_cast<int>(input.at("min_size").number);
    result.max_size = static_cast<int>(input.at("max_size").number);
    for (const Json& side : input.at("size").list) {
        result.size.push_back(static_cast<int>(side.number));
    }
    result.divisibility = static_cast<int>(input.at("divisibility").number);
    result.batch = static_cast<int>(input.at("batch_size").number);
    for (const Json& value : input.at("pad_value").list) {
        result.padding.push_back(static_cast<float>(value.number));
    }
    const Json& thresholds = json.at("thresholds");
    result.score_threshold = static_cast<float>(thresholds.at("score").number);
    result.mask_threshold = static_cast<float>(thresholds.at("mask").number);
    result.keep = static_cast<float>(thresholds.at("keep").number);
    for (const Json& name : json.at("classes").list) result.classes.push_back(name.text);
    return result;
}
