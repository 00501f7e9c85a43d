// wrapper DATA LIBRARY: one model through edgec.hpp, linked (-DFIRST=a_desc) and opened from a library, alone and on a
// pool. Each must give the answers that stand in the data file behind the inputs.
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <vector>

#include "edgec/edgec.hpp"

extern "C" const ec_desc FIRST;

static bool right(edgec::model &model, const std::vector<char> &data)
{
    std::size_t at = 0;
    for (std::uint32_t i = 0; i < model.desc()->n_inputs; i++) {
        auto input = model.input<std::byte>(model.desc()->inputs[i].name);
        std::memcpy(input.data(), data.data() + at, input.size());
        at += input.size();
    }
    model.run();
    for (std::uint32_t i = 0; i < model.desc()->n_outputs; i++)
        for (std::byte value : model.output<std::byte>(i))
            if (value != static_cast<std::byte>(data.at(at++)))
                return false;
    return true;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    std::ifstream file(argv[1], std::ios::binary);
    const std::vector<char> data{std::istreambuf_iterator<char>(file), {}};
    const edgec::bundle bundle(argv[2]);
    const edgec::pool pool(2);
    edgec::model linked(FIRST), loaded(bundle);
    edgec::model moved = std::move(loaded);
    bool ok = right(linked, data) && right(moved, data);
    moved.use(pool);
    ok = ok && right(moved, data);
    std::puts(ok ? "right" : "wrong");
    return ok ? 0 : 1;
}
