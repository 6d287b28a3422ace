#include "json.hpp"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

const Json& Json::at(const std::string& name) const {
    const auto found = object.find(name);
    if (found == object.end()) throw std::runtime_error("model.json has no \"" + name + "\"");
    return found->second;
}

bool Json::has(const std::string& name) const {
    const auto found = object.find(name);
    return found != object.end() && found->second.kind != Kind::null;
}

namespace {

class Parser {
public:
    explicit Parser(const std::string& text) : text_(text) {}

    Json document() {
        Json result = value();
        if (next() != '\0') fail();
        return result;
    }

private:
    [[noreturn]] void fail() const {
        throw std::runtime_error("not JSON at character " + std::to_string(place_));
    }

    // Returns the next character that is not white space, '\0' at the end, and stays there.
    char next() {
        place_ = std::min(text_.find_first_not_of(" \t\r\n", place_), text_.size());
        return place_ < text_.size() ? text_[place_] : '\0';
    }

    bool skip(char wanted) {
        if (next() != wanted) return false;
        ++place_;
        return true;
    }

    void expect(char wanted) {
        if (!skip(wanted)) fail();
    }

    Json value() {
        switch (next()) {
            case '{': return object();
            case '[': return list();
            case '"': return string();
            default: return word();
        }
    }

    Json object() {
        Json result;
        result.kind = Json::Kind::object;
        expect('{');
        if (skip('}')) return result;
        do {
            const std::string name = string().text;
            expect(':');
            result.object[name] = value();
        } while (skip(','));
        expect('}');
        return result;
    }

    Json list() {
        Json result;
        result.kind = Json::Kind::list;
        expect('[');
        if (skip(']')) return result;
        do result.list.push_back(value());
        while (skip(','));
        expect(']');
        return result;
    }

    Json string() {
        Json result;
        result.kind = Json::Kind::text;
        expect('"');
        while (place_ < text_.size() && text_[place_] != '"') {
            if (text_[place_] == '\\') {
                ++place_;
                escaped(result.text);
            } else {
                result.text += text_[place_++];
            }
        }
        if (place_++ >= text_.size()) fail();
        return result;
    }

    // Appends what follows a backslash.
    void escaped(std::string& to) {
        if (place_ >= text_.size()) fail();
        const char letter = text_[place_++];
        switch (letter) {
            case 'n': to += '\n'; return;
            case 't': to += '\t'; return;
            case 'r': to += '\r'; return;
            case 'b': to += '\b'; return;
            case 'f': to += '\f'; return;
            case 'u': return append_utf8(code(), to);
            default: to += letter;
        }
    }

    unsigned long hexadecimal() {
        if (place_ + 4 > text_.size()) fail();
        const std::string digits = text_.substr(place_, 4);
        char* end = nullptr;
        const unsigned long result = std::strtoul(digits.c_str(), &end, 16);
        if (*end != '\0') fail();
        place_ += 4;
        return result;
    }

    // Returns the character of \uXXXX, or of the two of them that JSON writes beyond U+FFFF.
    unsigned long code() {
        const unsigned long high = hexadecimal();
        if (high < 0xD800 || high >= 0xDC00 || text_.compare(place_, 2, "\\u") != 0) return high;
        place_ += 2;
        return 0x10000 + ((high - 0xD800) << 10) + (hexadecimal() - 0xDC00);
    }

    static void append_utf8(unsigned long code, std::string& to) {
        if (code < 0x80) {
            to += static_cast<char>(code);
            return;
        }
        const int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
        const int marks[] = {0, 0xC0, 0xE0, 0xF0};
        to += static_cast<char>(marks[more] | (code >> (6 * more)));
        for (int shift = 6 * (more - 1); shift >= 0; shift -= 6) {
            to += static_cast<char>(0x80 | ((code >> shift) & 0x3F));
        }
    }

    Json word() {
        Json result;
        for (const auto& [name, kind, number] :
             {Named{"null", Json::Kind::null, 0}, Named{"true", Json::Kind::boolean, 1},
              Named{"false", Json::Kind::boolean, 0}}) {
            if (text_.compare(place_, name.size(), name) == 0) {
                place_ += name.size();
                result.kind = kind;
                result.number = number;
                return result;
            }
        }
        char* end = nullptr;
        result.kind = Json::Kind::number;
        result.number = std::strtod(text_.c_str() + place_, &end);
        const std::size_t stop = static_cast<std::size_t>(end - text_.c_str());
        if (stop == place_) fail();
        place_ = stop;
        return result;
    }

    struct Named {
        std::string name;
        Json::Kind kind;
        double number;
    };

    const std::string& text_;
    std::size_t place_ = 0;
};

}  // namespace

Json parse_json(const std::string& text) { return Parser(text).document(); }
