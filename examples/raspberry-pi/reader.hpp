// A class around a compiled model: what the rest of a program sees of it.
#pragma once

#include <algorithm>
#include <utility>

#include "digits.h"
#include "edgec/edgec.hpp"

class DigitReader {
public:
    // The model owns its working memory; `pool` serves several models.
    explicit DigitReader(const edgec::pool &pool) : model_(digits_desc) { model_.use(pool); }

    // The digit that an image of 8 x 8 grey levels (0 to 16) shows, and how sure that is (0 to 1).
    std::pair<int, float> read(const unsigned char (&pixels)[64])
    {
        const auto image = model_.input<float>("image");
        std::transform(std::begin(pixels), std::end(pixels), image.begin(), [](unsigned char p) { return p / 16.0f; });
        model_.run();
        const auto scores = model_.output<float>("scores");
        const auto best = std::max_element(scores.begin(), scores.end());
        return {static_cast<int>(best - scores.begin()), *best};
    }

private:
    edgec::model model_;
};
