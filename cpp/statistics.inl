// The statistics that need more than a sum a lane: the largest scores of a row, and sums of weights over columns.

constexpr int64_t keys_in_chunk = 8;

// Puts one score in its place among a lane's best: after what is as large, for that came earlier; a NaN after all numbers.
template <class T> void insert_score(T score, int64_t key, T *best, int64_t *index, int64_t &held, int64_t top_k) {
    int64_t place = held < top_k ? held++ : top_k - 1;
    for (; place > 0 && (score > best[place - 1] || (best[place - 1] != best[place - 1] && score == score)); --place) {
        best[place] = best[place - 1];
        index[place] = index[place - 1];
    }
    best[place] = score;
    index[place] = key;
}

// Keeps the top_k largest scores of each lane. The largest of a few keys at a time tells whether any of them is wanted.
template <class T, int Q>
void rank(Tile<T, Q> &tile, int64_t top_k, int64_t first, int64_t count, const T *scores, const T *top) {
    constexpr int L = lanes<T>, width = Tile<T, Q>::width;
    const int64_t chunks = (count + keys_in_chunk - 1) / keys_in_chunk;
    T largest[keys_in_block / keys_in_chunk * width];
    for (int64_t chunk = 0; chunk < chunks; ++chunk)
        for (int q = 0; q < Q; ++q) {
            const int64_t stop = (chunk + 1) * keys_in_chunk < count ? (chunk + 1) * keys_in_chunk : count;
            Vector<T> most = splat<T>(-infinity<T>);
            for (int64_t j = chunk * keys_in_chunk; j < stop; ++j) most = larger(load(scores + j * width + q * L), most);
            store(largest + chunk * width + q * L, most);
        }
    for (int lane = 0; lane < tile.rows; ++lane) {
        T *best = tile.top_score + lane * top_k;
        int64_t *index = tile.top_index + lane * top_k;
        int64_t held = tile.top_count[lane];
        // What a score has to exceed; while there is room, everything that is not masked is taken, NaN too.
        const auto last_place = [&] { return best[top_k - 1] == best[top_k - 1] ? best[top_k - 1] : -infinity<T>; };
        T bar = held == top_k ? last_place() : -infinity<T>;
        if (held == top_k && !(top[lane] > bar)) continue;
        for (int64_t chunk = 0; chunk < chunks; ++chunk) {
            if (held == top_k && !(largest[chunk * width + lane] > bar)) continue;
            const int64_t stop = (chunk + 1) * keys_in_chunk < count ? (chunk + 1) * keys_in_chunk : count;
            for (int64_t j = chunk * keys_in_chunk; j < stop; ++j) {
                const T score = scores[j * width + lane];
                if (held < top_k ? score != -infinity<T> : score > bar) {
                    insert_score(score, first + j, best, index, held, top_k);
                    if (held == top_k) bar = last_place();
                }
            }
        }
        tile.top_count[lane] = held;
    }
}

// Where the weights of a task's tiles are summed by key and by block. Tiles come in the order of their queries.
template <class T> struct Columns {
    double *received;   // (keys), or null
    T *across;          // (block columns, width): one tile's weights summed over the keys of each block
    double *row;        // (block columns): the row of blocks that is being filled
    int64_t open_row;   // which; -1 for none
    int64_t open_head;
};

template <class T> void flush_row(const Problem &problem, int64_t batch, Columns<T> &columns) {
    if (columns.open_row < 0) return;
    const int64_t wide = (problem.keys + problem.block_columns - 1) / problem.block_columns;
    const int64_t tall = (problem.queries + problem.block_rows - 1) / problem.block_rows;
    T *to = (T *)problem.block_map + ((batch * problem.heads + columns.open_head) * tall + columns.open_row) * wide;
    for (int64_t column = 0; column < wide; ++column) {
        to[column] = (T)columns.row[column];
        columns.row[column] = 0;
    }
    columns.open_row = -1;
}

// Adds a closed tile, whose exponentials were kept, to the sums over queries.
template <class T, int Q>
void add_columns(const Problem &problem, Tile<T, Q> &tile, int64_t batch, Columns<T> &columns) {
    constexpr int L = lanes<T>, width = Tile<T, Q>::width;
    const int64_t wide = problem.block_map ? (problem.keys + problem.block_columns - 1) / problem.block_columns : 0;
    for (int64_t i = 0; i < wide * width; ++i) columns.across[i] = 0;
    T final_reference[width];  // infinite for lanes that have no weights, which makes their factors 0
    for (int lane = 0; lane < width; ++lane)
        final_reference[lane] = tile.normaliser[lane] == 0 ? infinity<T> : tile.reference[lane];

    const int64_t origin = tile.low / keys_in_block * keys_in_block;
    for (int64_t block = origin; block < tile.high; block += keys_in_block) {
        const int64_t first = block < tile.low ? tile.low : block;
        const int64_t last = block + keys_in_block < tile.high ? block + keys_in_block : tile.high;
        Vector<T> factor[Q];
        for (int q = 0; q < Q; ++q) {
            const T *reference = tile.kept_reference + block / keys_in_block * width + q * L;
            factor[q] = exp_of<T>(load(reference) - load(final_reference + q * L)) * load(tile.normaliser + q * L);
        }
        for (int64_t j = first; j < last;) {
            int64_t stop = last;  // of this block of the map
            if (wide) stop = (j / problem.block_columns + 1) * problem.block_columns;
            stop = stop < last ? stop : last;
            const int64_t column = wide ? j / problem.block_columns : 0;
            Vector<T> across[Q] = {};
            for (; j < stop; ++j) {
                Vector<T> weight[Q], both = {};
                for (int q = 0; q < Q; ++q) {
                    weight[q] = load(tile.scores + j * width + q * L) * factor[q];
                    across[q] += weight[q];
                    both += weight[q];
                }
                if (columns.received) columns.received[j] += (double)sum_of_lanes<T>(both);
            }
            if (wide)
                for (int q = 0; q < Q; ++q) {
                    T *place = columns.across + column * width + q * L;
                    store(place, load(place) + across[q]);
                }
        }
    }
    if (!wide) return;
    for (int lane = 0; lane < tile.rows;) {
        const int64_t row = tile.index[lane] / problem.block_rows;
        if (row != columns.open_row) {
            flush_row(problem, batch, columns);
            columns.open_row = row;
            columns.open_head = tile.head[lane];
        }
        int stop = lane;
        while (stop < tile.rows && tile.index[stop] / problem.block_rows == row) ++stop;
        for (int64_t column = 0; column < wide; ++column) {
            double sum = 0;
            for (int at = lane; at < stop; ++at) sum += (double)columns.across[column * width + at];
            columns.row[column] += sum;
        }
        lane = stop;
    }
}
