#include "op_profiler.h"

#include <time.h>

#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <shared_mutex>
#include <utility>

#include "fine_clock.h"

namespace qprof::litert {

// Everything that sessions share. Interpreters may run in several threads at once, hence the locks: sessions and
// hooks change rarely (load, resize, unload) and are looked up once per node and inference, under a shared lock.
struct Registry {
  std::shared_mutex mutex;
  int64_t next_id = 1;
  std::unordered_map<int64_t, Session*> sessions;
  std::unordered_map<abi::Node*, Session::Hook> hooks;
  std::unordered_map<abi::Context*, Session*> contexts;
  Session* retired = nullptr;  // the last of them; each knows the one before

  static Registry& get() noexcept {
    // Never destroyed: interpreters may outlive the static objects of this library.
    alignas(Registry) static unsigned char storage[sizeof(Registry)];
    static Registry* registry = new (storage) Registry;
    return *registry;
  }
};

namespace {

// More scratch tensors than any builtin or bundled custom kernel asks for.
constexpr uint64_t kScratchPerOp = 64;
constexpr int64_t kNanosecondsPerMicrosecond = 1000;
// Many times the operators of the largest partitions; memory that is never written to costs nothing.
constexpr size_t kMostReadings = 1 << 16;

int64_t monotonic_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

// Gives the memory back, which clear() does not.
template <class Container>
void empty(Container& container) noexcept {
  Container().swap(container);
}

// Ops registered through the opaque API are invoked by another path, which does not read `invoke`.
bool can_wrap(const abi::Registration& registration) noexcept {
  return registration.registration_external == nullptr && registration.invoke != nullptr;
}

}  // namespace

// While it exists the node of the hook is the current one: also where the op throws, which is the runtime's affair.
class Session::Running {
 public:
  Running(Session& session, const Hook& hook) noexcept : session_(session), outer_(session.current_) {
    session.current_ = {hook.subgraph, hook.node};
  }
  ~Running() { session_.current_ = outer_; }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

 private:
  Session& session_;
  const Current outer_;
};

Session* Session::create(bool kernels) { return new Session(kernels); }

Session::Session(bool kernels) : kernels_(kernels) {
  delegate_.data = this;
  delegate_.Prepare = &Session::prepare;
  delegate_.flags = abi::kAllowDynamicTensors;
  Registry& registry = Registry::get();
  std::unique_lock lock(registry.mutex);
  id_ = registry.next_id++;
  registry.sessions[id_] = this;
}

void Session::release() noexcept {
  Registry& registry = Registry::get();
  std::unique_lock lock(registry.mutex);
  if (--references_ > 0) return;
  registry.sessions.erase(id_);
  forget_interpreter(registry);
  // Emptied but kept, some hundred bytes: an interpreter that outlives its delegate (a bound method of the object
  // underneath keeps it alive) goes on calling the profiler in its contexts, be it for telemetry alone.
  recording_ = false;
  empty(records_);
  readings_.reset();
  empty(names_);
  empty(name_ids_);
  empty(kernel_names_);
  empty(expected_);
  empty(subgraphs_);
  next_retired_ = std::exchange(registry.retired, this);
}

abi::Delegate* Session::attach(int64_t id) noexcept {
  Registry& registry = Registry::get();
  std::unique_lock lock(registry.mutex);
  auto found = registry.sessions.find(id);
  // One interpreter at a time: the subgraphs of two would be taken for those of one model.
  if (found == registry.sessions.end() || found->second->attached_) return nullptr;
  Session* session = found->second;
  ++session->references_;
  session->attached_ = true;
  session->refused_ = false;
  return &session->delegate_;
}

void Session::detach(abi::Delegate* delegate) noexcept {
  auto* session = static_cast<Session*>(delegate->data);
  Registry& registry = Registry::get();
  {
    std::unique_lock lock(registry.mutex);
    session->forget_interpreter(registry);
    session->attached_ = false;
  }
  session->release();
}

// An interpreter lets go of its delegates last: its contexts and nodes are gone, and must be neither read nor written.
void Session::forget_interpreter(Registry& registry) noexcept {
  std::erase_if(registry.hooks, [this](const auto& entry) { return entry.second.session == this; });
  std::erase_if(registry.contexts, [this](const auto& entry) { return entry.second == this; });
  subgraphs_.clear();
}

abi::Status Session::prepare(abi::Context* context, abi::Delegate* delegate) noexcept {
  auto* session = static_cast<Session*>(delegate->data);
  // Called once per subgraph, and again when the interpreter re-applies its delegates after a resize.
  bool known = false;
  for (const Subgraph& subgraph : session->subgraphs_) known = known || subgraph.context == context;
  if (!known) {
    // The first use of a struct layout: do not write into a context that looks like none of the model's subgraphs.
    if (!session->looks_expected(context)) {
      session->refused_ = true;
      return abi::kOk;
    }
    if (!session->adopt(context)) {
      context->ReportError(context, "qprof: no memory to time another subgraph; load the model without per-op timing");
      return abi::kError;
    }
  }
  if (session->kernels_) context->profiler = static_cast<abi::Profiler*>(session);
  return abi::kOk;
}

// Whether there was memory for the subgraph.
bool Session::adopt(abi::Context* context) noexcept {
  Registry& registry = Registry::get();
  std::unique_lock lock(registry.mutex);
  try {
    subgraphs_.reserve(subgraphs_.size() + 1);
    registry.contexts[context] = this;
  } catch (...) {
    return false;
  }
  subgraphs_.push_back({context, context->GetExecutionPlan, context->GetNodeAndRegistration, {}});
  return true;
}

bool Session::looks_expected(abi::Context* context) const noexcept {
  for (const SubgraphSize& size : expected_) {
    // Kernels may already have added scratch tensors of their own (TFLite_Detection_PostProcess does).
    if (context->tensors_size < size.tensors || context->tensors_size > size.tensors + kScratchPerOp * (size.ops + 1)) {
      continue;
    }
    abi::IntArray* plan = nullptr;
    if (context->GetExecutionPlan(context, &plan) == abi::kOk && static_cast<uint64_t>(plan->size) == size.ops) {
      return true;
    }
  }
  return false;
}

// Calls `action(index, node, registration)` for each node of the execution plan that can be read.
template <class Action>
void Session::for_each_node(const Subgraph& subgraph, Action action) {
  abi::IntArray* plan = nullptr;
  if (subgraph.get_execution_plan(subgraph.context, &plan) != abi::kOk) return;
  for (int i = 0; i < plan->size; ++i) {
    abi::Node* node = nullptr;
    abi::Registration* registration = nullptr;
    const int index = plan->data[i];
    if (subgraph.get_node(subgraph.context, index, &node, &registration) == abi::kOk) action(index, node, registration);
  }
}

int Session::hook() {
  if (kernels_ && readings_ == nullptr) readings_ = std::make_unique_for_overwrite<int64_t[]>(kMostReadings);
  int hooked = 0;
  Registry& registry = Registry::get();
  std::unique_lock lock(registry.mutex);
  for (size_t s = 0; s < subgraphs_.size(); ++s) hooked += hook_subgraph(registry, s);
  return hooked;
}

int Session::hook_subgraph(Registry& registry, size_t number) {
  Subgraph& subgraph = subgraphs_[number];
  kernel_names_.clear();  // a delegate that was applied anew may number its kernels otherwise
  std::erase_if(registry.hooks, [&](const auto& entry) { return entry.second.context == subgraph.context; });
  int hooked = 0;
  Invoke delegates = nullptr;
  for_each_node(subgraph, [&](int index, abi::Node* node, abi::Registration* registration) {
    if (!can_wrap(*registration)) return;
    if (registration->invoke != &Session::trampoline) subgraph.originals[index] = registration->invoke;
    auto found = subgraph.originals.find(index);
    if (found == subgraph.originals.end()) return;  // wrapped by another session
    const Invoke original = found->second;
    const bool is_delegate = node->delegate != nullptr;
    // All partitions of a delegate have one function: its library is looked through once.
    if (kernels_ && is_delegate && original != std::exchange(delegates, original)) {
      plant_fine_clock(reinterpret_cast<const void*>(original));
    }
    registry.hooks[node] = {this,  subgraph.context, subgraph.get_node, original, static_cast<int>(number),
                            index, is_delegate};
    // Last: if memory runs out before, the node stays as it is.
    registration->invoke = &Session::trampoline;
    ++hooked;
  });
  return hooked;
}

void Session::unhook() {
  Registry& registry = Registry::get();
  std::unique_lock lock(registry.mutex);
  std::erase_if(registry.hooks, [this](const auto& entry) { return entry.second.session == this; });
  for (Subgraph& subgraph : subgraphs_) {
    // Through the node's index, not its address: a subgraph that was re-allocated while it ran has moved its nodes.
    for (const auto& [index, original] : subgraph.originals) {
      abi::Node* node = nullptr;
      abi::Registration* registration = nullptr;
      if (subgraph.get_node(subgraph.context, index, &node, &registration) != abi::kOk) continue;
      if (registration->invoke == &Session::trampoline) registration->invoke = original;
    }
    subgraph.originals.clear();
  }
}

// Not noexcept: an exception of the op's own passes through, as it would if nobody stood in front.
abi::Status Session::trampoline(abi::Context* context, abi::Node* node) {
  Hook hook;
  if (!find_hook(context, node, &hook)) {
    context->ReportError(context, "qprof: the op profiler lost a node; load the model without per-op timing");
    return abi::kError;
  }
  return hook.session->timed(hook, context, node);
}

// Whether the hook is still that of the node at this address: another node may have moved to where this one stood.
bool Session::Hook::stands_before(abi::Context* running, abi::Node* node_at) const noexcept {
  abi::Node* current = nullptr;
  abi::Registration* registration = nullptr;
  return running == context && get_node(context, node, &current, &registration) == abi::kOk && current == node_at;
}

bool Session::find_hook(abi::Context* context, abi::Node* node, Hook* hook) noexcept {
  Registry& registry = Registry::get();
  Session* session = nullptr;
  {
    std::shared_lock lock(registry.mutex);
    auto found = registry.hooks.find(node);
    if (found != registry.hooks.end() && found->second.stands_before(context, node)) {
      *hook = found->second;
      return true;
    }
    auto owner = registry.contexts.find(context);
    if (owner == registry.contexts.end()) return false;
    session = owner->second;
  }
  return session->rehook(context, node, hook);
}

// A subgraph that is re-allocated while it runs (the body of a WHILE whose shapes change) may move its nodes, our
// trampolines with them, and makes its delegates' nodes anew. A node's index still tells which function stood there.
bool Session::rehook(abi::Context* context, abi::Node* node, Hook* hook) noexcept {
  Registry& registry = Registry::get();
  std::unique_lock lock(registry.mutex);
  for (size_t s = 0; s < subgraphs_.size(); ++s) {
    if (subgraphs_[s].context != context) continue;
    try {
      hook_subgraph(registry, s);
    } catch (...) {
      // Once each, though they may run often: their number shows that something is missing.
      lost_ += unwrapped_nodes(s);
    }
    auto found = registry.hooks.find(node);
    if (found == registry.hooks.end()) return find_original(s, node, hook);
    *hook = found->second;
    return true;
  }
  return false;
}

// What the hook of a wrapped node would be if there had been memory for it.
bool Session::find_original(size_t number, abi::Node* node, Hook* hook) noexcept {
  const Subgraph& subgraph = subgraphs_[number];
  for (const auto& [index, original] : subgraph.originals) {
    const Hook candidate{this,  subgraph.context,         subgraph.get_node, original, static_cast<int>(number),
                         index, node->delegate != nullptr};
    if (!candidate.stands_before(subgraph.context, node)) continue;
    *hook = candidate;
    return true;
  }
  return false;
}

uint64_t Session::unwrapped_nodes(size_t number) const noexcept {
  uint64_t count = 0;
  for_each_node(subgraphs_[number], [&](int, abi::Node*, abi::Registration* registration) {
    count += can_wrap(*registration) && registration->invoke != &Session::trampoline;
  });
  return count;
}

abi::Status Session::timed(const Hook& hook, abi::Context* context, abi::Node* node) {
  prepare_state(before_, context, node);
  if (!recording_) return hook.original(context, node);
  const Running running(*this, hook);
  if (kernels_ && hook.is_delegate) return timed_delegate(hook, context, node);
  const int64_t start_ns = monotonic_ns();
  const abi::Status status = hook.original(context, node);
  keep_node(hook, start_ns, monotonic_ns() - start_ns);
  return status;
}

abi::Status Session::timed_delegate(const Hook& hook, abi::Context* context, abi::Node* node) {
  const int64_t start_ns = monotonic_ns();
  const FineClock clock(start_ns, {readings_.get(), readings_ == nullptr ? 0 : kMostReadings});
  const abi::Status status = hook.original(context, node);
  const int64_t duration_ns = monotonic_ns() - start_ns;
  refine_kernels(hook, clock.readings());
  keep_node(hook, start_ns, duration_ns);
  return status;
}

bool Session::is_kernel_of(const Record& record, const Hook& hook) const noexcept {
  return record.kind == RecordKind::kKernel && record.subgraph == hook.subgraph && record.node == hook.node;
}

// The kernels of the node that has just run, which lie last, from what was reported of them to nanoseconds. Believed
// only where every kernel ends at a reading of the clock, the first begins at the first, and the last ends at the last.
void Session::refine_kernels(const Hook& hook, std::span<const int64_t> readings) noexcept {
  size_t begin = records_.size();
  while (begin > 0 && is_kernel_of(records_[begin - 1], hook)) --begin;
  const std::span<Record> kernels = std::span(records_).subspan(begin);
  // A reading at the start and one per kernel at least, or they were not timed by the planted clock: microseconds.
  if (kernels.empty() || readings.size() <= kernels.size()) return;
  size_t at = 0;
  for (Record& kernel : kernels) {
    const size_t first = at;
    const int64_t end_ns = readings[first] + kernel.duration_us;
    do ++at;
    while (at < readings.size() && readings[at] < end_ns);
    if (at >= readings.size() || readings[at] != end_ns) break;
    kernel.start_ns = readings[first];
    kernel.duration_ns = kernel.duration_us;
    kernel.readings = static_cast<int64_t>(at - first);
  }
  const bool is_whole = at + 1 == readings.size() && kernels.back().readings > 0;
  for (Record& kernel : kernels) {
    kernel.duration_us /= kNanosecondsPerMicrosecond;
    if (!is_whole) kernel.start_ns = kernel.duration_ns = kernel.readings = 0;
  }
}

void Session::keep_node(const Hook& hook, int64_t start_ns, int64_t duration_ns) noexcept {
  if (!current_.is_torn) {
    try {
      records_.push_back(
          {RecordKind::kNode, inference_, hook.subgraph, hook.node, -1, -1, start_ns, duration_ns, 0, 0});
      return;
    } catch (...) {
      // Lost, and counted below.
    }
  }
  ++lost_;
  for (; !records_.empty() && is_kernel_of(records_.back(), hook); ++lost_) records_.pop_back();
}

void Session::AddEvent(const char* tag, int type, uint64_t metric, int64_t metadata1, int64_t) noexcept {
  // Other event types carry other metrics under the same call (a telemetry event's is 2^32).
  if (!recording_ || (type != abi::kDelegateOperatorInvoke && type != abi::kDelegateProfiledOperatorInvoke)) return;
  const int kernel = static_cast<int>(metadata1);
  try {
    records_.push_back({RecordKind::kKernel, inference_, current_.subgraph, current_.node, kernel,
                        kernel_name(kernel, tag), 0, 0, static_cast<int64_t>(metric), 0});
  } catch (...) {
    ++lost_;
    current_.is_torn = true;
  }
}

int Session::kernel_name(int kernel, const char* tag) {
  const uint64_t key = (static_cast<uint64_t>(current_.subgraph & 0xffff) << 48) |
                       (static_cast<uint64_t>(current_.node & 0xffffff) << 24) |
                       static_cast<uint64_t>(kernel & 0xffffff);
  auto known = kernel_names_.find(key);
  if (known != kernel_names_.end()) return known->second;
  const int name = intern(tag);
  kernel_names_.emplace(key, name);
  return name;
}

int Session::intern(const char* tag) {
  const std::string name = tag == nullptr ? "" : tag;
  auto known = name_ids_.find(name);
  if (known != name_ids_.end()) return known->second;
  // The name first: if memory runs out in between, a name without a number does no harm.
  names_.push_back(name);
  const int id = static_cast<int>(names_.size() - 1);
  name_ids_.emplace(name, id);
  return id;
}

std::vector<NodeInfo> Session::nodes(int subgraph) const {
  std::vector<NodeInfo> result;
  const Subgraph& info = subgraphs_.at(static_cast<size_t>(subgraph));
  for_each_node(info, [&](int index, abi::Node* node, abi::Registration* registration) {
    NodeInfo entry{.index = index,
                   .builtin_code = registration->builtin_code,
                   .custom_name = registration->custom_name == nullptr ? "" : registration->custom_name,
                   .is_delegate = node->delegate != nullptr,
                   .is_hooked = registration->invoke == &Session::trampoline,
                   .members = {}};
    // A delegate of the opaque API keeps other parameters there.
    if (entry.is_delegate && node->builtin_data != nullptr && registration->registration_external == nullptr) {
      const abi::IntArray* members = static_cast<abi::DelegateParams*>(node->builtin_data)->nodes_to_replace;
      entry.members.assign(members->data, members->data + members->size);
    }
    result.push_back(std::move(entry));
  });
  return result;
}

std::vector<int> Session::builtin_codes(int subgraph, int count) const {
  std::vector<int> codes;
  const Subgraph& info = subgraphs_.at(static_cast<size_t>(subgraph));
  for (int index = 0; index < count; ++index) {
    abi::Node* node = nullptr;
    abi::Registration* registration = nullptr;
    const bool found = info.get_node(info.context, index, &node, &registration) == abi::kOk;
    codes.push_back(found ? registration->builtin_code : -1);
  }
  return codes;
}

std::vector<TensorInfo> Session::tensors(int subgraph) const {
  std::vector<TensorInfo> result;
  const abi::Context* context = subgraphs_.at(static_cast<size_t>(subgraph)).context;
  for (size_t i = 0; i < context->tensors_size; ++i) {
    const abi::Tensor& tensor = context->tensors[i];
    result.push_back({tensor.name == nullptr ? "" : tensor.name, tensor.allocation_type, tensor.bytes,
                      reinterpret_cast<uint64_t>(tensor.data)});
  }
  return result;
}

}  // namespace qprof::litert

#define QPROF_EXPORT extern "C" __attribute__((visibility("default")))

// What LiteRT's load_delegate() looks for. The only option is "session": the number of an existing session. `count` is
// an int because load_delegate() passes one (the C++ declaration says size_t, whose upper half would be undefined).
QPROF_EXPORT void* tflite_plugin_create_delegate(char** keys, char** values, int count,
                                                 void (*report_error)(const char*)) noexcept {
  for (int i = 0; i < count; ++i) {
    if (std::strcmp(keys[i], "session") != 0) continue;
    if (auto* delegate = qprof::litert::Session::attach(std::strtoll(values[i], nullptr, 10))) return delegate;
  }
  if (report_error != nullptr) report_error("qprof: the option 'session' names no op profiler that is free");
  return nullptr;
}

QPROF_EXPORT void tflite_plugin_destroy_delegate(void* delegate) noexcept {
  if (delegate != nullptr) qprof::litert::Session::detach(static_cast<qprof::litert::abi::Delegate*>(delegate));
}
