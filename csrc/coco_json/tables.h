// The entries of COCO's lists as columns. Formats: https://cocodataset.org/#format-data and #format-results.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "alike.h"
#include "column.h"
#include "members.h"

namespace qprof::coco_json {

// The first entry that is valid JSON but not what the format demands.
struct Misfit {
  size_t entry;
  const char* at;
  Key key;          // kOther: the entry itself is no object
  bool is_missing;  // rather than wrong
};

// What all lists have in common. `List` has `columns` (see Rows), `read(p)`, which reads one object into the row
// behind the last, and `join(other)` for what is not in columns.
template <class List>
class Entries : public Rows<List> {
 public:
  std::optional<Misfit> misfit;

  // Entries passed so far, rows or not.
  size_t seen() const { return this->size() + not_kept_; }

  // The value at p. After a misfit the rest is only checked for its syntax.
  const char* entry(const char* p) {
    if (misfit) [[unlikely]] {
      const char* end = skip_value(p);
      ++not_kept_;
      return end;
    }
    if (*p != '{') [[unlikely]] {
      const char* end = skip_value(p);
      set_misfit(p, Key::kOther, false);
      return end;
    }
    this->reserve_one();
    return static_cast<List*>(this)->read(p);
  }

  // The entries behind these, read elsewhere.
  void append(List& next) {
    if (misfit || next.misfit) {
      if (!misfit) {
        misfit = next.misfit;
        misfit->entry += this->size();
      }
      not_kept_ += next.seen();
      return;
    }
    Rows<List>::append(next);
    static_cast<List*>(this)->join(next);
  }

 protected:
  // The object at p is read: a row, or a misfit.
  void finish(const char* p, const Members& members) {
    if (members.is_complete()) [[likely]] {
      this->push();
      return;
    }
    const char* at = members.blamed_at();
    set_misfit(at != nullptr ? at : p, members.blamed(), at == nullptr);
  }

 private:
  void set_misfit(const char* at, Key key, bool is_missing) {
    misfit = {this->size(), at, key, is_missing};
    ++not_kept_;
  }

  size_t not_kept_ = 0;
};

struct Detections : Entries<Detections> {
  static constexpr const char* kList = "the list of detections";
  static constexpr const char* kEntry = "detection";
  Column<int64_t> image_id, category_id;
  Column<double, 4> bbox;
  Column<double> score;
  std::vector<std::string> skipped;

  template <class Each>
  void columns(Detections& other, Each&& each) {
    each(image_id, other.image_id);
    each(category_id, other.category_id);
    each(bbox, other.bbox);
    each(score, other.score);
  }
  const char* read(const char* p);
  void join(Detections& other);

 private:
  Alike alike_;
};

struct Annotations : Entries<Annotations> {
  static constexpr const char* kList = "annotations";
  static constexpr const char* kEntry = "annotation";
  Column<int64_t> id, image_id, category_id;
  Column<double, 4> bbox;
  Column<double> area;
  Column<uint8_t> iscrowd, ignore;
  size_t without_area = 0;

  template <class Each>
  void columns(Annotations& other, Each&& each) {
    each(id, other.id);
    each(image_id, other.image_id);
    each(category_id, other.category_id);
    each(bbox, other.bbox);
    each(area, other.area);
    each(iscrowd, other.iscrowd);
    each(ignore, other.ignore);
  }
  const char* read(const char* p);
  void join(Annotations& other) { without_area += other.without_area; }
};

struct Images : Entries<Images> {
  static constexpr const char* kList = "images";
  static constexpr const char* kEntry = "image";
  Column<int64_t> id, width, height;

  template <class Each>
  void columns(Images& other, Each&& each) {
    each(id, other.id);
    each(width, other.width);
    each(height, other.height);
  }
  const char* read(const char* p);
  void join(Images&) {}
};

struct Categories : Entries<Categories> {
  static constexpr const char* kList = "categories";
  static constexpr const char* kEntry = "category";
  Column<int64_t> id;
  Column<uint8_t> is_named;
  std::vector<std::string> names;

  template <class Each>
  void columns(Categories& other, Each&& each) {
    each(id, other.id);
    each(is_named, other.is_named);
  }
  const char* read(const char* p);
  void join(Categories& other) { names.insert(names.end(), other.names.begin(), other.names.end()); }
};

}  // namespace qprof::coco_json
