// Skips the bulk of a ground truth file: the coordinates of polygons and the counts of uncompressed masks.
#pragma once

namespace qprof::coco_json {

// `p` is where a value of an array starts. Skips plain decimal numbers and the comma after each; returns `p` or the
// place behind one of those commas. Whatever is unusual or wrong is left for the caller to judge.
const char* skip_numbers(const char* p);

}  // namespace qprof::coco_json
