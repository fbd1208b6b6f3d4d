// Few rows against many keys, as in decoding: the keys are cut into pieces, which are walked in any order by any thread, and
// whoever finishes a unit's last piece merges them in theirs. The cut follows from the number of keys alone.

// What is known of a row after one piece: the state (m, l, o) of `Partial`, its statistics, and the largest scores.
template <class T> struct Record {
    T maximum, sum, cross, travel;
    int64_t top_count;

    T *output() { return (T *)((char *)this + 64); }
    T *top_score(const Problem &p) { return (T *)((char *)this + 64 + whole_lines(p.value_dim * (int64_t)sizeof(T))); }
    int64_t *top_index(const Problem &p) { return (int64_t *)((char *)top_score(p) + whole_lines(p.ranked * (int64_t)sizeof(T))); }
};

// One thread's memory. Where there is one piece, nobody else needs to see what is known of it.
template <class T> struct DecodeSpace {
    int64_t depth;  // dimensions of a row, up to whole vectors
    Buffer<T> query, scores, kept;
    Buffer<uint8_t> mask;
    Buffer<char> records, total;

    DecodeSpace(const Problem &p, const Split &split)
        : depth(round_up(p.dim, lanes<T>)),
          query(split.rows * depth),
          scores(split.rows * keys_in_block),
          kept(split.pieces == 1 ? kept_in_unit(p, split) : 0),
          mask(p.mask_depth * keys_in_block),
          records(split.pieces == 1 ? split.rows * record_bytes(p) : 0),
          total(record_bytes(p)) {}

    bool ok() const { return query.ok && scores.ok && kept.ok && mask.ok && records.ok && total.ok; }
};

// The rows of one unit, and where what is known of them is put.
template <class T> struct Unit {
    int64_t batch, number, key_head;
    char *records;  // (pieces, rows)
    T *kept;        // (rows, keys): exp(score - reference), or null
    T *reference;   // (rows, blocks)

    Record<T> &record(const Problem &p, const Split &split, int64_t piece, int64_t row) const {
        return *(Record<T> *)(records + (piece * split.rows + row) * record_bytes(p));
    }
};

// Calls work(Count<R>, first) for the rows in groups of 4, 2 and 1: as many as sums fit into registers.
template <class T, class Work> QKV_INLINE void by_group(int64_t rows, Work work) {
    constexpr int most = lanes<T> < 4 ? lanes<T> : 4;
    by_rows<most>(0, rows, work);
}

template <class T, class In>
void walk_piece(const Problem &problem, const Split &split, DecodeSpace<T> &space, const Unit<T> &unit, int64_t piece) {
    const int64_t depth = space.depth, value_depth = whole_lines(problem.value_dim * (int64_t)sizeof(T)) / (int64_t)sizeof(T);
    const int64_t record_step = record_bytes(problem) / (int64_t)sizeof(T);
    const int64_t blocks = (problem.keys + keys_in_block - 1) / keys_in_block;
    Row<T> rows[lanes<T>];
    int64_t low = problem.keys, high = 0;
    for (int64_t r = 0; r < split.rows; ++r) {
        Row<T> &row = rows[r] = open_row<T>(problem, split.fold, unit.batch, unit.number, r);
        Record<T> &record = unit.record(problem, split, piece, r);
        row.output = record.output();
        row.top_score = record.top_score(problem);
        row.top_index = record.top_index(problem);
        for (int64_t d = 0; d < value_depth; ++d) row.output[d] = 0;
        if (row.start < row.stop) {
            low = row.start < low ? row.start : low;
            high = row.stop > high ? row.stop : high;
        }
        T *to = space.query.data + r * depth;
        load_row(problem.dtype, problem.query.at(unit.batch, row.head[0], row.index[0], sizeof(In)), problem.dim, to);
        for (int64_t d = 0; d < depth; ++d) to[d] = d < problem.dim ? to[d] * (T)problem.scale : (T)0;
    }
    const int64_t begin = piece * keys_in_piece, end = begin + keys_in_piece;
    low = low < begin ? begin : low;
    high = high > end ? end : high;
    const auto rows_from = [&](const Array &array, int64_t key) QKV_LAMBDA {
        return (const In *)array.at(unit.batch, unit.key_head, key, sizeof(In));
    };
    T *const scores = space.scores.data;
    for (int64_t block = low / keys_in_block * keys_in_block; block < high; block += keys_in_block) {
        // Only what some row may see is read: beyond, there may be anything.
        const int64_t first = block < low ? low : block;
        const int64_t last = block + keys_in_block < high ? block + keys_in_block : high;
        const int64_t count = last - first, at = first - block, after = high - last;
        const Stream<In> keys = {rows_from(problem.key, first),   problem.key.stride[2],   count, problem.dim,
                                 rows_from(problem.value, first), problem.value.stride[2], count, problem.value_dim};
        const Stream<In> values = {rows_from(problem.value, first), problem.value.stride[2], count, problem.value_dim,
                                   rows_from(problem.key, last),    problem.key.stride[2],   after, problem.dim};
        by_group<T>(split.rows, [&](auto group, int64_t r) QKV_LAMBDA {
            stream_keys<T, decltype(group)::value>(keys, space.query.data + r * depth, depth, scores + r * keys_in_block + at,
                                                   keys_in_block, r == 0);
        });
        T rescale[lanes<T>];
        for (int64_t r = 0; r < split.rows; ++r) {
            Row<T> &row = rows[r];
            T *strip = scores + r * keys_in_block;
            adjust_row(problem, row, unit.batch, first, count, strip + at);
            mask_row(problem, row, unit.batch, first, count, space.mask.data, strip + at);
            bound_row((row.start > first ? row.start : first) - block, (row.stop < last ? row.stop : last) - block, strip);
            rescale[r] = soften_row(row, problem, block, strip);
            if (!unit.kept) continue;
            __builtin_memcpy(unit.kept + r * problem.keys + first, strip + at, (size_t)count * sizeof(T));
            unit.reference[r * blocks + block / keys_in_block] = row.maximum;
        }
        by_group<T>(split.rows, [&](auto group, int64_t r) QKV_LAMBDA {
            stream_values<T, decltype(group)::value>(values, scores + r * keys_in_block + at, keys_in_block, r == 0, rescale + r,
                                                     rows[r].output, record_step);
        });
    }
    for (int64_t r = 0; r < split.rows; ++r) {
        Record<T> &record = unit.record(problem, split, piece, r);
        record.maximum = rows[r].maximum;
        record.sum = sum_of_lanes<T>(rows[r].sum);
        record.cross = sum_of_lanes<T>(rows[r].cross);
        record.travel = sum_of_lanes<T>(rows[r].travel);
        record.top_count = rows[r].top_count;
    }
}

// One row's records into one, in the order of the pieces.
template <class T>
void merge_records(const Problem &problem, const Split &split, const Unit<T> &unit, int64_t r, Record<T> &total) {
    total.maximum = -infinity<T>;
    total.sum = total.cross = total.travel = 0;
    for (int64_t d = 0; d < problem.value_dim; ++d) total.output()[d] = 0;
    Row<T> best{};
    best.top_score = total.top_score(problem);
    best.top_index = total.top_index(problem);
    for (int64_t piece = 0; piece < split.pieces; ++piece) {
        const T maximum = unit.record(problem, split, piece, r).maximum;
        total.maximum = maximum > total.maximum ? maximum : total.maximum;
    }
    const T reference = total.maximum == -infinity<T> ? (T)0 : total.maximum;
    for (int64_t piece = 0; piece < split.pieces; ++piece) {
        Record<T> &record = unit.record(problem, split, piece, r);
        const Vector<T> moved = splat<T>(record.maximum - reference);
        const T factor = exp_of<T>(moved)[0];
        if (factor == 0 && record.sum == record.sum) continue;  // nothing seen, or nothing that counts
        total.sum += record.sum * factor;
        total.cross += (record.cross + clamp_exponent<T>(moved)[0] * record.sum) * factor;
        total.travel += record.travel * factor;
        for (int64_t d = 0; d < problem.value_dim; ++d) total.output()[d] += record.output()[d] * factor;
        if (problem.ranked) {
            const int64_t *index = record.top_index(problem);
            rank_row(best, problem.ranked, record.top_count, record.top_score(problem),
                     [&](int64_t i) QKV_LAMBDA { return index[i]; });
        }
    }
    total.top_count = best.top_count;
}

// `received` and `block_map` from the exponentials that were kept. Each is turned into a weight in place.
template <class T>
void add_kept(const Problem &problem, const Split &split, const Unit<T> &unit, const T *maximum, const T *normaliser) {
    const int64_t blocks = (problem.keys + keys_in_block - 1) / keys_in_block;
    for (int64_t r = 0; r < split.rows; ++r) {
        const Row<T> row = open_row<T>(problem, split.fold, unit.batch, unit.number, r);
        for (int64_t block = 0; block < blocks; ++block) {
            const int64_t first = block * keys_in_block;
            const int64_t low = row.start > first ? row.start : first;
            const int64_t stop = first + keys_in_block < problem.keys ? first + keys_in_block : problem.keys;
            const int64_t high = row.stop < stop ? row.stop : stop;
            T *weights = unit.kept + r * problem.keys;
            T factor = 0;
            if (low < high && normaliser[r] != 0)
                factor = exp_of<T>(splat<T>(unit.reference[r * blocks + block] - maximum[r]))[0] * normaliser[r];
            for (int64_t j = first; j < stop; ++j) weights[j] = j >= low && j < high ? weights[j] * factor : (T)0;
        }
    }
    for (int64_t f = 0; f < split.fold; ++f) {
        const int64_t head = unit.batch * problem.heads + unit.number * split.fold + f;
        if (problem.received) {
            T *to = (T *)problem.received + head * problem.keys;
            for (int64_t j = 0; j < problem.keys; ++j) to[j] = 0;
            for (int64_t r = f; r < split.rows; r += split.fold)
                for (int64_t j = 0; j < problem.keys; ++j) to[j] += unit.kept[r * problem.keys + j];
        }
        if (!problem.block_map) continue;
        const int64_t wide = (problem.keys + problem.block_columns - 1) / problem.block_columns;
        const int64_t tall = (problem.queries + problem.block_rows - 1) / problem.block_rows;
        T *map = (T *)problem.block_map + head * tall * wide;
        for (int64_t row = 0; row < tall; ++row)
            for (int64_t column = 0; column < wide; ++column) {
                const int64_t from = column * problem.block_columns, to = from + problem.block_columns;
                const int64_t last = (row + 1) * problem.block_rows;
                double sum = 0;
                for (int64_t i = row * problem.block_rows; i < last && i < problem.queries; ++i)
                    for (int64_t j = from; j < to && j < problem.keys; ++j)
                        sum += (double)unit.kept[(i * split.fold + f) * problem.keys + j];
                map[row * wide + column] = (T)sum;
            }
    }
}

template <class T>
void finish_unit(const Problem &problem, const Split &split, DecodeSpace<T> &space, const Unit<T> &unit) {
    T maximum[lanes<T>], normaliser[lanes<T>];
    Record<T> &total = *(Record<T> *)space.total.data;
    for (int64_t r = 0; r < split.rows; ++r) {
        merge_records(problem, split, unit, r, total);
        const int64_t head = unit.number * split.fold + r % split.fold, index = r / split.fold;
        const Totals<T> totals = {total.maximum, total.maximum, total.sum, total.sum, total.cross, total.travel};
        maximum[r] = total.maximum;
        normaliser[r] = finish_row(problem, unit.batch, head, index, totals).weights;
        if (problem.top_k)
            write_top_row(problem, unit.batch, head, index, total.top_score(problem), total.top_index(problem), total.top_count,
                          total.maximum, normaliser[r]);
        for (int64_t d = 0; d < problem.value_dim; ++d) total.output()[d] *= normaliser[r];
        store_row(problem.output_dtype, total.output(), problem.value_dim,
                  problem.output.at(unit.batch, head, index, bytes_of(problem.output_dtype)));
    }
    if (unit.kept) add_kept(problem, split, unit, maximum, normaliser);
}

template <class T, class In> bool decode(const Problem &problem, const Split &split, TaskSource source) {
    DecodeSpace<T> space(problem, split);
    if (!space.ok()) return false;
    const bool keeps = problem.received || problem.block_map;
    const int64_t units = problem.heads / split.fold;
    for (int64_t task; (task = source.next(source.state)) >= 0;) {
        const int64_t place = task / split.pieces, number = split.first_unit + place;
        Unit<T> unit = {number / units, number % units, number % units * split.fold / (problem.heads / problem.key_heads),
                        space.records.data, space.kept.data, nullptr};
        if (split.pieces > 1) {
            unit.records = split.records + place * split.pieces * split.rows * record_bytes(problem);
            unit.kept = keeps ? (T *)split.kept + place * kept_in_unit(problem, split) : nullptr;
        }
        if (keeps) unit.reference = unit.kept + split.rows * problem.keys;
        walk_piece<T, In>(problem, split, space, unit, task % split.pieces);
        // The last one to finish sees what all others wrote.
        if (split.pieces == 1 || __atomic_sub_fetch(split.left + place, 1, __ATOMIC_ACQ_REL) == 0)
            finish_unit(problem, split, space, unit);
    }
    return true;
}
