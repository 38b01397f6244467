#include "reader.h"

#include <algorithm>

#include "list.h"

namespace qprof::coco_json {
namespace {

constexpr const char* kAgain = ": download or export it again";

std::string place(const Text& text, const char* at) {
  at = std::clamp(at, text.begin(), text.end());
  const auto line = 1 + std::count(text.begin(), at, '\n');
  return "byte " + std::to_string(at - text.begin()) + ", line " + std::to_string(line);
}

std::string explain(const Text& text, const SyntaxError& error) {
  const char* what = error.at >= text.end() ? "the text ends too early" : error.what;
  return std::string("is not valid JSON: ") + what + " (" + place(text, error.at) + ")";
}

std::string explain(const Text& text, const EntrySyntaxError& error) {
  return explain(text, error.error) + " in " + error.name + " " + std::to_string(error.entry) + kAgain;
}

// What fits no list's format, or nothing.
template <class List>
std::string explain_misfit(const Text& text, const List& list) {
  if (!list.misfit) return {};
  const Misfit& misfit = *list.misfit;
  const std::string entry = std::string(List::kEntry) + " " + std::to_string(misfit.entry);
  const std::string where = " (" + place(text, misfit.at) + ")";
  if (misfit.key == Key::kOther) return entry + where + " is not an object: give an object of the COCO format";
  const std::string name = name_of(misfit.key);
  if (misfit.is_missing) return entry + where + " has no " + name + ": it has to be " + demand_of(misfit.key);
  return name + " of " + entry + where + " is not " + demand_of(misfit.key);
}

// The start of the document, behind a byte order mark of UTF-8.
const char* start_of(const Text& text) {
  const char* p = text.begin();
  return skip_space(starts_with(p, "\xef\xbb\xbf") ? p + 3 : p);
}

bool is_utf16_or_32(const Text& text) {
  const char* p = text.begin();
  if (text.end() - p < 2) return false;
  return starts_with(p, "\xff\xfe") || starts_with(p, "\xfe\xff") || p[0] == '\0' || p[1] == '\0';
}

// Calls `document` with the start of the text; it returns its end. Then the text has to be over.
template <class Document>
std::string read_document(const Text& text, Document&& document) {
  if (text.begin() == text.end()) return std::string("is empty") + kAgain;
  if (is_utf16_or_32(text)) return "is not UTF-8, but a wider encoding of Unicode: save it as UTF-8";
  try {
    const char* p = skip_space(document(start_of(text)));
    if (p != text.end()) fail(p, "text behind the end of the document");
  } catch (const SyntaxError& error) {
    return explain(text, error) + kAgain;
  } catch (const EntrySyntaxError& error) {
    return explain(text, error);
  }
  return {};
}

// A list of the ground truth that may be missing, of another type, or given twice.
template <class List>
struct Section {
  List& list;
  bool is_given = false;

  const char* read(const char* p, const Text& text, int threads) {
    list = List();
    is_given = *p == '[';
    return is_given ? read_list(p, text.end(), threads, list) : skip_value(p);
  }
  std::string problem(const Text& text) const {
    if (is_given) return explain_misfit(text, list);
    return std::string("has no list '") + List::kList + "': give a COCO 'instances' annotation file";
  }
};

}  // namespace

std::string read_results(const Text& text, int threads, Detections& detections) {
  bool is_list = false;
  std::string problem = read_document(text, [&](const char* p) {
    is_list = *p == '[';
    return is_list ? read_list(p, text.end(), threads, detections) : skip_value(p);
  });
  if (!problem.empty()) return problem;
  if (!is_list) return "is not a COCO results file (no JSON list at the top): give a list of detections";
  detections.shrink();
  return explain_misfit(text, detections);
}

std::string read_ground_truth(const Text& text, int threads, GroundTruth& truth) {
  Section<Images> images{truth.images};
  Section<Categories> categories{truth.categories};
  Section<Annotations> annotations{truth.annotations};
  bool is_object = false;
  std::string problem = read_document(text, [&](const char* start) {
    is_object = *start == '{';
    if (!is_object) return skip_value(start);
    return read_members(start, [&](const char* p) {
      const std::string name = read_string(p);
      p = skip_colon(p);
      if (name == Images::kList) return images.read(p, text, 1);
      if (name == Categories::kList) return categories.read(p, text, 1);
      if (name == Annotations::kList) return annotations.read(p, text, threads);
      return skip_value(p);
    });
  });
  if (!problem.empty()) return problem;
  if (!is_object) return "is not a COCO annotation file (no JSON object at the top): give an 'instances' file";
  for (const std::string& found : {images.problem(text), categories.problem(text), annotations.problem(text)}) {
    if (!found.empty()) return found;
  }
  truth.images.shrink();
  truth.categories.shrink();
  truth.annotations.shrink();
  return {};
}

}  // namespace qprof::coco_json
