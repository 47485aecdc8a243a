// Computes fixtures by the formulas of sections 2, 3 and 5 of the specification, and writes candidates for `check`.
//
//     c++ -std=c++17 -O2 -o fixtures main.cpp && ./fixtures FIXTURES OUT
//
// A plain loop over the weights, double precision, with masks, lists, lengths, dropout, slopes and values in the keys; cases with a
// bias, sink, cap or packed sequences, or another sampler, rule or layout than the paper's and coord4 or arrival, are counted and left out.
#include "sus_oracle_reader.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <set>

using namespace sus_oracle;
using Words = std::array<std::uint32_t, 4>;

static Words philox4x32_10(Words c, std::uint32_t k0, std::uint32_t k1) {
    for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        std::uint64_t a = std::uint64_t{0xD2511F53u} * c[0], b = std::uint64_t{0xCD9E8D57u} * c[2];
        c = {std::uint32_t(b >> 32) ^ c[1] ^ k0, std::uint32_t(b), std::uint32_t(a >> 32) ^ c[3] ^ k1, std::uint32_t(a)};
    }
    return c;
}

// An optional tensor of four axes, of which an axis of length 1 serves all; empty if the file has none.
struct Optional {
    std::vector<double> x;
    std::size_t shape[4] = {1, 1, 1, 1};

    Optional(const File& file, const std::string& name) {
        if (!file.tensors.count(name)) return;
        x = file[name].values();
        for (std::size_t axis = 0; axis < 4 && axis < file[name].shape.size(); ++axis) shape[axis] = file[name].shape[axis];
    }
    double at(std::size_t b, std::size_t h, std::size_t i, std::size_t j) const {
        return x[((b % shape[0] * shape[1] + h % shape[1]) * shape[2] + i % shape[2]) * shape[3] + j];
    }
};

struct Problem {
    std::size_t B, Hq, Hk, Nq, Nk, D, E;
    Optional attn_mask, block_mask, indices, dropout, slopes, lengths_q, lengths_k;
    double keep = 1;
    std::size_t block[2] = {1, 1};
    bool v_of_k;
    std::vector<double> q, k, v, g, dlse;
    double scale, c;
    bool sus, arrival = false, causal, top_left;
    long left = -1, right = -1;  // of the window; -1 is no limit
    std::uint64_t seed = 0;
    std::uint32_t stream = 0;

    explicit Problem(const File& file)
        : attn_mask(file, "attn_mask"), block_mask(file, "block_mask"), indices(file, "indices"), dropout(file, "dropout_mask"),
          slopes(file, "alibi_slopes"), lengths_q(file, "lengths_q"), lengths_k(file, "lengths_k") {
        const Json& s = file.settings;
        auto &shape = file["q"].shape, &k_shape = file["k"].shape;
        B = shape[0], Hq = shape[1], Nq = shape[2], D = shape[3];
        Hk = k_shape[1], Nk = k_shape[2], E = file["do"].shape[3];
        q = file["q"].values(), k = file["k"].values(), g = file["do"].values();
        v_of_k = s.has("v_of_k");
        if (!v_of_k) v = file["v"].values();
        for (std::size_t n = 0; v_of_k && n < B * Hk * Nk; ++n) v.insert(v.end(), &k[n * D], &k[n * D] + E);
        if (s.has("dropout_p")) keep = 1 - s["dropout_p"].number();
        for (int side = 0; side < 2 && s.has("block"); ++side) block[side] = s["block"].items[side].integer();
        dlse = file.tensors.count("dlse") ? file["dlse"].values() : std::vector<double>(B * Hq * Nq, 0.0);
        scale = s.has("scale") ? s["scale"].number() : 1 / std::sqrt(double(D));
        sus = s["pass"].text == "sus";
        causal = s.has("causal") && s["causal"].text == "true";
        top_left = s.has("alignment") && s["alignment"].text == "top-left";
        if (s.has("window")) left = long(s["window"].items[0].integer()), right = long(s["window"].items[1].integer());
        if (sus) {
            const std::string& text = s["c"].text;
            c = text == "inf" ? std::numeric_limits<double>::infinity() : s["c"].number();
            seed = s["seed"].integer();
            stream = std::uint32_t(s["stream"].integer());
            arrival = s["layout"].text == "arrival";
        }
    }
    // i + Nk - Nq with the lengths of this sequence.
    long below(std::size_t b, std::size_t i) const {
        long queries = lengths_q.x.empty() ? long(Nq) : long(lengths_q.x[b]), keys = lengths_k.x.empty() ? long(Nk) : long(lengths_k.x[b]);
        return long(i) + keys - queries;
    }
    bool sees(std::size_t b, std::size_t h, std::size_t i, std::size_t j) const {
        if ((!lengths_q.x.empty() && i >= lengths_q.x[b]) || (!lengths_k.x.empty() && j >= lengths_k.x[b])) return false;
        if (!attn_mask.x.empty() && attn_mask.at(b, h, i, j) == 0) return false;
        if (!block_mask.x.empty() && block_mask.at(b, h, i / block[0], j / block[1]) == 0) return false;
        bool listed = indices.x.empty();
        std::size_t head = indices.shape[1] == Hk ? h / (Hq / Hk) : h;
        for (std::size_t t = 0; !indices.x.empty() && t < indices.shape[3]; ++t) listed |= indices.at(b, head, i, t) == double(j);
        long at = long(j), diagonal = top_left ? long(i) : below(b, i);
        return listed && !(causal && at > diagonal) && !(left >= 0 && at < diagonal - left) && !(right >= 0 && at > diagonal + right);
    }
    double z(std::size_t b, std::size_t h, std::size_t i, std::size_t j) const {
        return dropout.x.empty() ? 1 : dropout.at(b, h, i, j) != 0 ? 1 / keep : 0;
    }
    // The words of a row. Layout arrival, docs/arrival.md: the smallest word of all points of a key.
    std::vector<double> words(std::size_t row_head, std::size_t i) const {
        auto block = [&](std::uint32_t number) {
            return philox4x32_10({number, std::uint32_t(i), std::uint32_t(row_head), stream}, std::uint32_t(seed), std::uint32_t(seed >> 32));
        };
        const double two32 = 4294967296.0;
        std::vector<double> x(Nk);
        for (std::size_t j = 0; j < Nk; ++j) x[j] = block(std::uint32_t(j >> 2))[j & 3];
        if (!arrival) return x;
        auto word = [&](double r, int bits, double start) {
            for (int n = 0; n < bits; ++n) r = std::sqrt(r);
            volatile double product = r * start;  // rounded: no fused multiply-add
            return std::floor((1 - product) * two32);
        };
        for (double& w : x) w = word((w + 0.5) / two32, 0, 0.9332856543296796);
        struct Strip { int bits; std::uint32_t tag; double start; };
        for (Strip strip : {Strip{10, 2, 1.0}, Strip{6, 1, 0.9959468271073058}})
            for (std::uint32_t keys = 1u << strip.bits, cell = 0; std::size_t(cell) * keys < Nk; ++cell) {
                std::uint64_t product = 1ull << 32;
                for (std::uint32_t n = 0; n < 64; ++n) {
                    std::uint32_t w = block(strip.tag << 30 | cell << 4 | n / 4)[n % 4];
                    product = product * ((w & ~(keys - 1)) | keys >> 1) >> 32;
                    if (product < 1u << 26) break;
                    std::size_t j = std::size_t(cell) * keys + (w & (keys - 1));
                    if (j < Nk) x[j] = std::min(x[j], word(double(product) / two32, strip.bits, strip.start));
                }
            }
        return x;
    }
};

static double dot(const double* a, const double* b, std::size_t n) {
    double sum = 0;
    for (std::size_t d = 0; d < n; ++d) sum += a[d] * b[d];
    return sum;
}

static std::map<std::string, Tensor> evaluate(const Problem& p) {
    const double infinity = std::numeric_limits<double>::infinity();
    std::vector<double> o(p.B * p.Hq * p.Nq * p.E), lse(p.B * p.Hq * p.Nq), dq(p.q.size()), dk(p.k.size()), dv(p.v.size()), dslopes(p.Hq), values;
    std::vector<std::int64_t> offsets{0};
    std::vector<std::int32_t> columns;
    for (std::size_t row = 0; row < lse.size(); ++row) {
        std::size_t i = row % p.Nq, head = row / p.Nq, b = head / p.Hq, h = head % p.Hq, key_head = head / p.Hq * p.Hk + head % p.Hq / (p.Hq / p.Hk);
        const double *q = &p.q[row * p.D], *g = &p.g[row * p.E], *k = p.k.data() + key_head * p.Nk * p.D, *v = p.v.data() + key_head * p.Nk * p.E;
        double* dk_head = dk.data() + key_head * p.Nk * p.D;
        double* dv_head = dv.data() + key_head * p.Nk * p.E;
        std::vector<double> s(p.Nk, -infinity);
        for (std::size_t j = 0; j < p.Nk; ++j)
            if (p.sees(b, h, i, j)) {
                s[j] = p.scale * dot(q, k + j * p.D, p.D);
                if (!p.slopes.x.empty()) s[j] -= p.slopes.x[h] * double(std::labs(p.below(b, i) - long(j)));
            }
        double top = -infinity, sum = 0;
        for (double x : s) top = std::max(top, x);
        for (double x : s) sum += top == -infinity ? 0 : std::exp(x - top);
        lse[row] = top == -infinity ? top : top + std::log(sum);
        for (std::size_t j = 0; j < p.Nk; ++j)
            for (std::size_t e = 0; e < p.E && s[j] != -infinity; ++e) o[row * p.E + e] += std::exp(s[j] - lse[row]) * p.z(b, h, i, j) * v[j * p.E + e];
        if (top == -infinity) {  // nothing is seen, or the row is padding
            offsets.push_back(std::int64_t(columns.size()));
            continue;
        }
        double delta = dot(g, &o[row * p.E], p.E);
        std::vector<double> x = p.sus ? p.words(head, i) : std::vector<double>();
        for (std::size_t j = 0; j < p.Nk; ++j) {
            if (s[j] == -infinity) continue;
            double w = std::exp(s[j] - lse[row]);
            if (p.sus) {
                double cw = p.c * w;
                if (w == 0 || !(cw >= 1 || x[j] < cw * 4294967296.0)) continue;  // exact in doubles
                w = std::max(w, 1 / p.c);
                columns.push_back(std::int32_t(j));
                values.push_back(w);
            }
            double z = p.z(b, h, i, j), t = z * dot(g, v + j * p.E, p.E) - delta + p.dlse[row], ds = w * t * p.scale;
            dslopes[h] -= w * t * double(std::labs(p.below(b, i) - long(j)));
            for (std::size_t d = 0; d < p.D; ++d) dq[row * p.D + d] += ds * k[j * p.D + d], dk_head[j * p.D + d] += ds * q[d];
            for (std::size_t e = 0; e < p.E; ++e) dv_head[j * p.E + e] += w * z * g[e];
        }
        offsets.push_back(std::int64_t(columns.size()));
    }
    std::map<std::string, Tensor> out{
        {"o", Tensor::of("F64", {p.B, p.Hq, p.Nq, p.E}, o)},   {"lse", Tensor::of("F64", {p.B, p.Hq, p.Nq}, lse)},
        {"dq", Tensor::of("F64", {p.B, p.Hq, p.Nq, p.D}, dq)}, {"dk", Tensor::of("F64", {p.B, p.Hk, p.Nk, p.D}, dk)},
        {"dv", Tensor::of("F64", {p.B, p.Hk, p.Nk, p.E}, dv)},
    };
    if (!p.slopes.x.empty()) out["dslopes"] = Tensor::of("F64", {p.Hq}, dslopes);
    if (p.v_of_k) {
        for (std::size_t n = 0; n < dv.size(); ++n) dk[n / p.E * p.D + n % p.E] += dv[n];
        out.erase("dk"), out.erase("dv"), out["dkv"] = Tensor::of("F64", {p.B, p.Hk, p.Nk, p.D}, dk);
    }
    if (p.sus) {
        out["mask/row_offsets"] = Tensor::of("I64", {offsets.size()}, offsets);
        out["mask/columns"] = Tensor::of("I32", {columns.size()}, columns);
        out["mask/values"] = Tensor::of("F64", {values.size()}, values);
    }
    return out;
}

static bool computable(const File& file) {
    const Json& s = file.settings;
    bool plain = !s.has("softcap") && !s.has("segments_q");
    for (const char* name : {"bias", "sink", "cu_seqlens_q"}) plain = plain && !file.tensors.count(name);
    return plain && (s["pass"].text == "dense" || (s["rule"].text == "paper" && s["sampler"].text == "bernoulli" && (s["layout"].text == "coord4" || s["layout"].text == "arrival")));
}

// Integers exactly; floats within the stored bound of an f32 kernel times 2^-29, the ratio of the roundoffs, and 2 for higher orders.
static bool agrees(const File& file, const std::string& name, const Tensor& tensor) {
    bool mask = name.rfind("mask/", 0) == 0;
    const Tensor& expected = file[mask ? name : "expected/" + name];
    if (tensor.shape != expected.shape) return false;
    if (expected.dtype != "F64") return tensor.bytes == expected.bytes;
    auto bound = file.tensors.find("bound/f32/" + name);
    if (bound == file.tensors.end()) return true;  // left to `check`
    std::vector<double> found = tensor.values(), truth = expected.values(), allowed = bound->second.values();
    for (std::size_t n = 0; n < truth.size(); ++n)
        if (found[n] != truth[n] && !(std::abs(found[n] - truth[n]) <= std::ldexp(allowed[n], -28))) return false;
    return true;
}

int main(int count, char** arguments) try {
    if (count != 3) throw std::runtime_error("usage: fixtures FIXTURES OUT");
    std::string folder = arguments[1], out = arguments[2];
    if (philox4x32_10({0, 0, 0, 0}, 42, 0) != Words{0x9ceaf053, 0x77f5493b, 0x12bf50ad, 0x5742b3d7}) throw std::runtime_error("philox");
    std::string text = read_file(folder + "/manifest.json");
    Json manifest = JsonParser(text).parse();
    if (manifest["spec"].text != "sus-oracle-fixtures/1") throw std::runtime_error("not a manifest of ours");
    std::filesystem::create_directories(out);
    std::set<std::string> listed, computed;
    for (const Json& entry : manifest["cases"].items) {
        listed.insert(entry["name"].text);
        File file = read_safetensors(folder + "/" + entry["file"].text);
        if (file.tensors.size() != entry["tensors"].items.size()) throw std::runtime_error(entry["file"].text + ": other tensors");
        if (!computable(file)) continue;
        auto result = evaluate(Problem(file));
        for (auto& [name, tensor] : result)
            if (!agrees(file, name, tensor)) throw std::runtime_error(entry["name"].text + ": " + name + " is not the expected one");
        write_safetensors(out + "/" + entry["file"].text, result);
        computed.insert(entry["name"].text);
    }
    for (const char* name : {"primes", "causal_square", "attn_mask", "block_mask", "indices", "dropout", "alibi", "v_of_k",
                             "sus_bernoulli_paper", "sus_heads", "sus_masks", "sus_dropout", "full_sus_arrival"})
        if (listed.count(name) && !computed.count(name)) throw std::runtime_error(std::string(name) + ": not computed");
    std::printf("%zu cases read, %zu computed and written to %s\n", manifest["cases"].items.size(), computed.size(), out.c_str());
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
}
