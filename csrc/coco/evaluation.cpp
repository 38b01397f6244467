#include "evaluation.h"

#include <algorithm>
#include <memory>
#include <numeric>

#include "grouping.h"
#include "parallel.h"

namespace qprof::coco {
namespace {

struct Worker {
  Matcher matcher;
  Curves curves;
  MatchedClass matched;
};

}  // namespace

std::vector<MatchedClass> evaluate(const GroundTruths& truths, const Detections& detections, const Settings& settings,
                                   const Tables& tables) {
  const Grouped<uint32_t> truths_of = group_ground_truths(truths, settings);
  const Grouped<Candidate> detections_of = group_detections(detections, settings);
  // The largest classes first, so that no thread is left alone with one of them at the end.
  std::vector<size_t> classes(settings.classes());
  std::iota(classes.begin(), classes.end(), size_t{0});
  std::stable_sort(classes.begin(), classes.end(),
                   [&](size_t a, size_t b) { return detections_of.of(a).size() > detections_of.of(b).size(); });
  std::vector<std::unique_ptr<Worker>> workers(std::max(1u, settings.threads));
  std::vector<MatchedClass> kept(settings.keep ? settings.classes() : 0);
  for_each_task(classes.size(), settings.threads, [&](size_t task, unsigned w) {
    if (!workers[w]) {
      workers[w].reset(new Worker{Matcher(truths, detections, settings), Curves(detections, settings), {}});
    }
    const size_t c = classes[task];
    MatchedClass& matched = settings.keep ? kept[c] : workers[w]->matched;
    workers[w]->matcher.match(truths_of.of(c), detections_of.of(c), matched);
    workers[w]->curves.write(matched, c, tables);
  });
  return kept;
}

}  // namespace qprof::coco
