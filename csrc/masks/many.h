// Many masks at once, on threads.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "mask.h"

namespace qprof::masks {

// Masks as files state them, gathered one after the other: `begin`, then what it is made of. A mask of polygons may
// have several or none, each closed by `end_polygon`. Texts are not copied and have to stay.
class Sources {
 public:
  // Throws as `checked_size`, naming the mask.
  void begin(int64_t height, int64_t width);
  void add_text(const char* text, size_t size) {
    all_.back().form = Form::kText;
    all_.back().text = {text, size};
  }
  void add_lengths(const int64_t* lengths, size_t count) {
    all_.back().form = Form::kLengths;
    all_.back().begin = lengths_.size();
    lengths_.insert(lengths_.end(), lengths, lengths + count);
    all_.back().end = lengths_.size();
  }
  void add_number(double number) { numbers_.push_back(number); }
  void end_polygon() {
    polygon_ends_.push_back(numbers_.size());
    all_.back().end = polygon_ends_.size();
  }
  size_t size() const { return all_.size(); }

  // Throws std::invalid_argument, naming the mask.
  Counts read(size_t i) const;

 private:
  enum class Form : uint8_t { kPolygons, kText, kLengths };
  struct Source {
    Size size;
    Form form;
    std::string_view text;
    size_t begin, end;  // in lengths_, or in polygon_ends_
  };

  Counts read_polygons(const Source& source) const;

  std::vector<Source> all_;
  std::vector<int64_t> lengths_;
  std::vector<double> numbers_;
  std::vector<size_t> polygon_ends_;
};

// The result of these does not depend on `threads`; the error is that of the first mask at fault that a thread met.
std::vector<Counts> read_counts(const Sources& sources, unsigned threads);
std::vector<Mask> read_masks(const Sources& sources, unsigned threads);
Counts merge_all(const std::vector<Counts>& parts, bool intersect);

// As the authors of Boundary IoU have it, `ratio` of the image's diagonal wide, one pixel at least.
std::vector<Mask> boundaries(const std::vector<Mask>& masks, double ratio, unsigned threads);

// Which pairs to compare: row r is detection[r] with truth_order[truth_begin[r] + i], i below truth_count[r]; its
// figures go to out[out_begin[r] + i].
struct Rows {
  size_t count;
  const int32_t* detection;
  const int64_t* truth_begin;
  const int64_t* truth_count;
  const int64_t* out_begin;
};

// See `iou`. Indices are not checked.
void overlaps(const std::vector<Mask>& detections, const std::vector<Mask>& truths, const Rows& rows,
              const int32_t* truth_order, const uint8_t* crowd, double floor, unsigned threads, double* out);

}  // namespace qprof::masks
