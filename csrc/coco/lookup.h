// Ids to indices.
#pragma once

#include <cstdint>
#include <span>

#include "inputs.h"

namespace qprof::coco {

// For each id its place in `sorted` (ascending, no two equal), or -1. Returns how many have none.
size_t index_of(const Column<int64_t>& ids, size_t count, std::span<const int64_t> sorted, int32_t* out,
                unsigned threads);
size_t index_of(const Column<double>& ids, size_t count, std::span<const int64_t> sorted, int32_t* out,
                unsigned threads);

}  // namespace qprof::coco
