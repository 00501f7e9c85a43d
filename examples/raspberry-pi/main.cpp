// Reads twenty handwritten digits on four cores.
#include <cstdio>

#include "reader.hpp"
#include "samples.h"

int main()
{
    try {
        const edgec::pool pool(4);
        DigitReader reader(pool);
        int right = 0;
        for (int i = 0; i < N_SAMPLES; i++) {
            const auto [digit, confidence] = reader.read(sample_pixels[i]);
            right += digit == sample_labels[i];
            std::printf("image %2d is a %d (%.1f %%)\n", i, digit, 100.0 * static_cast<double>(confidence));
        }
        std::printf("%d of %d right\n", right, N_SAMPLES);
        return right * 10 >= N_SAMPLES * 9 ? 0 : 1;
    } catch (const edgec::error &error) {
        std::fprintf(stderr, "digits: %s\n", error.what());
        return 2;
    }
}
