#include "picture.hpp"

#include <fstream>
#include <limits>
#include <stdexcept>

#ifdef HAS_OPENCV
#include <opencv2/imgcodecs.hpp>
#endif

namespace {

// Returns the next number of a PPM file's header, after comments.
int header_number(std::istream& file) {
    while ((file >> std::ws) && file.peek() == '#') {
        file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
    }
    int number = 0;
    file >> number;
    return number;
}

Picture read_ppm(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string kind;
    if (!(file >> kind) || kind != "P6") {
#ifdef HAS_OPENCV
        throw std::runtime_error(path + " can't be read: give a picture that OpenCV reads");
#else
        throw std::runtime_error(path + " can't be read: without OpenCV, give a binary PPM file");
#endif
    }
    Picture picture;
    picture.width = header_number(file);
    picture.height = header_number(file);
    const int greatest = header_number(file);
    file.get();  // a single white space
    if (!file || picture.width < 1 || picture.height < 1 || greatest != 255) {
        throw std::runtime_error(path + " is not a PPM file of 8 bits");
    }
    picture.pixels.resize(static_cast<std::size_t>(picture.height) * picture.width * 3);
    const auto count = static_cast<std::streamsize>(picture.pixels.size());
    if (!file.read(reinterpret_cast<char*>(picture.pixels.data()), count)) {
        throw std::runtime_error(path + " is truncated");
    }
    return picture;
}

#ifdef HAS_OPENCV
// Tells whether this program reads the file itself: OpenCV prints errors of its own.
bool is_ppm(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return file.get() == 'P' && file.get() == '6';
}
#endif

}  // namespace

Picture read_picture(const std::string& path) {
#ifdef HAS_OPENCV
    // OpenCV turns the picture upright as its EXIF tag says, and puts blue first.
    const cv::Mat image = is_ppm(path) ? cv::Mat() : cv::imread(path, cv::IMREAD_COLOR);
    if (!image.empty()) {
        Picture picture{image.rows, image.cols, {}};
        picture.pixels.reserve(image.total() * 3);
        for (int y = 0; y < image.rows; ++y) {
            for (int x = 0; x < image.cols; ++x) {
                const cv::Vec3b& pixel = image.at<cv::Vec3b>(y, x);
                for (int index = 2; index >= 0; --index) picture.pixels.push_back(pixel[index]);
            }
        }
        return picture;
    }
#endif
    return read_ppm(path);
}
