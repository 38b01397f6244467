#include "evaluation.h"

#include <algorithm>
#include <memory>
#include <numeric>

#include "curves.h"
#include "grouping.h"
#include "parallel.h"

namespace qprof::coco {
std::vector<MatchedClass> evaluate(const GroundTruths& truths, const Detections& detections, const Settings& settings,
                                   double* recall) {
  const Grouped<uint32_t> truths_of = group_ground_truths(truths, settings);
  const Grouped<Candidate> detections_of = group_detections(detections, settings);
  // The largest classes first, so that no thread is left alone with one of them at the end.
  std::vector<size_t> classes(settings.classes());
  std::iota(classes.begin(), classes.end(), size_t{0});
  std::stable_sort(classes.begin(), classes.end(),
                   [&](size_t a, size_t b) { return detections_of.of(a).size() > detections_of.of(b).size(); });
  std::vector<std::unique_ptr<Matcher>> workers(std::max(1u, settings.threads));
  std::vector<MatchedClass> matched(settings.classes());
  for_each_task(classes.size(), settings.threads, [&](size_t task, unsigned w) {
    if (!workers[w]) workers[w] = std::make_unique<Matcher>(truths, detections, settings);
    const size_t c = classes[task];
    matched[c] = workers[w]->match(truths_of.of(c), detections_of.of(c));
    write_recall(matched[c], settings, c, recall);
  });
  return matched;
}

}  // namespace qprof::coco
