// Values of JSON: as much as is needed to read an exported model's description.
#pragma once

#include <map>
#include <string>
#include <vector>

struct Json {
    enum class Kind { null, boolean, number, text, list, object };
    Kind kind = Kind::null;
    double number = 0;  // of a boolean, 0 or 1
    std::string text;
    std::vector<Json> list;
    std::map<std::string, Json> object;

    // Returns a member of an object. Throws std::runtime_error if there is none.
    const Json& at(const std::string& name) const;
    // Returns whether an object has a member that is not null.
    bool has(const std::string& name) const;
};

// Returns the value that a text describes. Throws std::runtime_error if it is not JSON.
Json parse_json(const std::string& text);
