// Reads and writes safetensors files, and reads the manifest of a suite of fixtures. C++17, the standard library alone.
// Assumes a little-endian machine, as the format does, and throws std::runtime_error for anything it cannot read.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace sus_oracle {

// A JSON value; numbers keep their text, so that 64-bit seeds stay exact.
struct Json {
    enum Kind { Null, Bool, Number, String, Array, Object } kind = Null;
    std::string text;  // of a number or a string; "true" or "false"
    std::vector<Json> items;
    std::map<std::string, Json> members;

    bool has(const std::string& key) const { return members.count(key) != 0; }
    const Json& operator[](const std::string& key) const {
        auto found = members.find(key);
        if (found == members.end()) throw std::runtime_error("JSON: no key " + key);
        return found->second;
    }
    double number() const { return std::strtod(text.c_str(), nullptr); }
    std::uint64_t integer() const { return std::strtoull(text.c_str(), nullptr, 10); }
};

class JsonParser {
  public:
    explicit JsonParser(const std::string& source) : s(source) {}
    Json parse() {
        Json value = read();
        if (peek() != '\0' || at != s.size()) fail("text after the value");
        return value;
    }

  private:
    const std::string& s;
    std::size_t at = 0;

    [[noreturn]] void fail(const std::string& what) const {
        throw std::runtime_error("JSON: " + what + " at byte " + std::to_string(at));
    }
    char peek() {
        while (at < s.size() && std::strchr(" \t\r\n", s[at]) != nullptr) ++at;
        return at < s.size() ? s[at] : '\0';
    }
    void expect(char c) {
        if (peek() != c) fail(std::string("expected ") + c);
        ++at;
    }
    // After an item: true if another follows, false if the list ends.
    bool more(char end) {
        if (peek() == ',') return ++at, true;
        expect(end);
        return false;
    }
    std::string string() {
        std::string out;
        for (expect('"');; ++at) {
            if (at >= s.size()) fail("unexpected end");
            if (s[at] == '"') return ++at, out;
            if (s[at] != '\\') {
                out += s[at];
                continue;
            }
            const char* from = "\"\\/bfnrt";
            const char* to = "\"\\/\b\f\n\r\t";
            const char* known = at + 1 < s.size() ? std::strchr(from, s[at + 1]) : nullptr;
            if (known == nullptr || *known == '\0') fail("an escape that no fixture uses");
            out += to[known - from];
            ++at;
        }
    }
    Json read() {
        Json value;
        char c = peek();
        if (c == '{') {
            value.kind = Json::Object;
            ++at;
            if (peek() == '}') return ++at, value;
            do {
                std::string key = string();
                expect(':');
                value.members[key] = read();
            } while (more('}'));
        } else if (c == '[') {
            value.kind = Json::Array;
            ++at;
            if (peek() == ']') return ++at, value;
            do value.items.push_back(read());
            while (more(']'));
        } else if (c == '"') {
            value = {Json::String, string(), {}, {}};
        } else {
            std::size_t end = s.find_first_of(",]} \t\r\n", at);
            value.text = s.substr(at, end == std::string::npos ? end : end - at);
            bool word = value.text == "true" || value.text == "false";
            value.kind = value.text == "null" ? Json::Null : word ? Json::Bool : Json::Number;
            if (value.kind == Json::Number && std::strchr("-0123456789", c) == nullptr) fail("no value");
            at += value.text.size();
        }
        return value;
    }
};

inline std::string read_file(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    if (!in) throw std::runtime_error(path + ": cannot be read");
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

struct Tensor {
    std::string dtype;
    std::vector<std::size_t> shape;
    std::string bytes;

    template <class T> std::vector<double> as() const {
        std::vector<double> out;
        for (std::size_t at = 0; at + sizeof(T) <= bytes.size(); at += sizeof(T)) {
            T value;
            std::memcpy(&value, bytes.data() + at, sizeof(T));
            out.push_back(static_cast<double>(value));
        }
        return out;
    }
    // The elements; every type of a fixture but large I64 fits a double.
    std::vector<double> values() const {
        if (dtype == "F64") return as<double>();
        if (dtype == "F32") return as<float>();
        if (dtype == "I64") return as<std::int64_t>();
        if (dtype == "I32") return as<std::int32_t>();
        if (dtype == "U8") return as<std::uint8_t>();
        throw std::runtime_error("dtype " + dtype + " is in no fixture");
    }
    template <class T>
    static Tensor of(std::string dtype, std::vector<std::size_t> shape, const std::vector<T>& values) {
        std::string bytes(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
        return {std::move(dtype), std::move(shape), std::move(bytes)};
    }
};

struct File {
    Json settings;  // __metadata__["sus_oracle"]
    std::map<std::string, Tensor> tensors;

    const Tensor& operator[](const std::string& name) const {
        auto found = tensors.find(name);
        if (found == tensors.end()) throw std::runtime_error("no tensor " + name);
        return found->second;
    }
};

inline File read_safetensors(const std::string& path) {
    std::string data = read_file(path);
    std::uint64_t length = 0;
    if (data.size() < 8) throw std::runtime_error(path + ": no header");
    std::memcpy(&length, data.data(), 8);
    if (length > data.size() - 8) throw std::runtime_error(path + ": cut short");
    std::string text = data.substr(8, length);
    Json header = JsonParser(text).parse();
    File file;
    for (auto& [name, entry] : header.members) {
        if (name == "__metadata__") {
            if (entry.has("sus_oracle")) file.settings = JsonParser(entry["sus_oracle"].text).parse();
            continue;
        }
        Tensor tensor{entry["dtype"].text, {}, {}};
        for (const Json& axis : entry["shape"].items) tensor.shape.push_back(axis.integer());
        std::uint64_t begin = entry["data_offsets"].items.at(0).integer(), end = entry["data_offsets"].items.at(1).integer();
        if (begin > end || end > data.size() - 8 - length) throw std::runtime_error(path + ": " + name + " is cut short");
        tensor.bytes = data.substr(8 + length + begin, end - begin);
        file.tensors[name] = std::move(tensor);
    }
    return file;
}

inline void write_safetensors(const std::string& path, const std::map<std::string, Tensor>& tensors) {
    std::string header = "{", body;
    for (auto& [name, tensor] : tensors) {
        header += (header.size() > 1 ? ",\"" : "\"") + name + "\":{\"dtype\":\"" + tensor.dtype + "\",\"shape\":[";
        for (std::size_t n = 0; n < tensor.shape.size(); ++n) header += (n ? "," : "") + std::to_string(tensor.shape[n]);
        header += "],\"data_offsets\":[" + std::to_string(body.size()) + "," + std::to_string(body.size() + tensor.bytes.size()) + "]}";
        body += tensor.bytes;
    }
    header += "}";
    header.append((8 - header.size() % 8) % 8, ' ');
    std::uint64_t length = header.size();
    std::ofstream out(path, std::ios::binary);
    out.write(reinterpret_cast<const char*>(&length), 8) << header << body;
    if (!out.flush()) throw std::runtime_error(path + ": cannot be written");
}

}  // namespace sus_oracle
