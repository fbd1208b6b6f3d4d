// Which weights dropout keeps: qkv/attention/_dropout.py says how, bit for bit. Philox4x32-10 with the counter
// (key / 4, query, head, batch item), whose four words are those of four neighbouring keys.

template <int width> struct Words {
    uint32_t word[4][width];
};

template <int width> void philox(Words<width> &words, uint64_t seed) {
    uint32_t low = (uint32_t)seed, high = (uint32_t)(seed >> 32);
    for (int turn = 0; turn < 10; ++turn, low += 0x9E3779B9u, high += 0xBB67AE85u)
        for (int lane = 0; lane < width; ++lane) {
            const uint64_t left = (uint64_t)words.word[0][lane] * 0xD2511F53u;
            const uint64_t right = (uint64_t)words.word[2][lane] * 0xCD9E8D57u;
            words.word[0][lane] = (uint32_t)(right >> 32) ^ words.word[1][lane] ^ low;
            words.word[1][lane] = (uint32_t)right;
            words.word[2][lane] = (uint32_t)(left >> 32) ^ words.word[3][lane] ^ high;
            words.word[3][lane] = (uint32_t)left;
        }
}

// What a block of weights (keys, width) is multiplied by: 1 / (1 - dropout) where the weight stays, 0 where it does not.
template <class T, int Q>
void draw(const Problem &problem, const Tile<T, Q> &tile, int64_t batch, int64_t first, int64_t count, T *factors) {
    constexpr int width = Tile<T, Q>::width;
    const double bound = __builtin_rint(problem.dropout * 4294967296.0);
    const uint32_t threshold = bound < 4294967295.0 ? (uint32_t)bound : 4294967295u;
    const T factor = (T)(1 / (1 - problem.dropout));
    for (int64_t group = first / 4; group * 4 < first + count; ++group) {
        Words<width> words;
        for (int lane = 0; lane < width; ++lane) {
            words.word[0][lane] = (uint32_t)group;
            words.word[1][lane] = (uint32_t)tile.index[lane];
            words.word[2][lane] = (uint32_t)tile.head[lane];
            words.word[3][lane] = (uint32_t)batch;
        }
        philox(words, problem.seed);
        for (int place = 0; place < 4; ++place) {
            const int64_t j = group * 4 + place - first;
            if (j < 0 || j >= count) continue;
            for (int lane = 0; lane < width; ++lane)
                factors[j * width + lane] = words.word[place][lane] >= threshold ? factor : (T)0;
        }
    }
}
