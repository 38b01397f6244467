#include "op_profiler.h"

#include <time.h>

#include <cstdlib>
#include <cstring>
#include <mutex>
#include <shared_mutex>

namespace qprof::litert {

// Everything that sessions share. Interpreters may run in several threads at once, hence the locks: sessions and
// hooks change rarely (load, resize, unload) and are looked up once per node and inference, under a shared lock.
struct Registry {
  std::shared_mutex mutex;
  int64_t next_id = 1;
  std::unordered_map<int64_t, Session*> sessions;
  std::unordered_map<abi::Node*, Session::Hook> hooks;
  std::unordered_map<abi::Context*, Session*> contexts;
  std::vector<Session*> retired;

  static Registry& get() {
    // Never destroyed: interpreters may outlive the static objects of this library.
    static Registry* registry = new Registry;
    return *registry;
  }
};

namespace {

// More scratch tensors than any builtin or bundled custom kernel asks for.
constexpr uint64_t kScratchPerOp = 64;

int64_t monotonic_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

Session* Session::create() { return new Session; }

Session::Session() {
  delegate_.data = this;
  delegate_.Prepare = &Session::prepare;
  delegate_.flags = abi::kAllowDynamicTensors;
  Registry& registry = Registry::get();
  std::unique_lock lock(registry.mutex);
  id_ = registry.next_id++;
  registry.sessions[id_] = this;
}

void Session::release() {
  Registry& registry = Registry::get();
  std::unique_lock lock(registry.mutex);
  if (--references_ > 0) return;
  registry.sessions.erase(id_);
  forget_interpreter(registry);
  // Emptied but kept, some hundred bytes: an interpreter that outlives its delegate (a bound method of the object
  // underneath keeps it alive) goes on calling the profiler in its contexts, be it for telemetry alone.
  recording_ = false;
  records_ = {};
  names_ = {};
  name_ids_ = {};
  kernel_names_ = {};
  expected_ = {};
  registry.retired.push_back(this);
}

abi::Delegate* Session::attach(int64_t id) {
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

void Session::detach(abi::Delegate* delegate) {
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
void Session::forget_interpreter(Registry& registry) {
  std::erase_if(registry.hooks, [this](const auto& entry) { return entry.second.session == this; });
  std::erase_if(registry.contexts, [this](const auto& entry) { return entry.second == this; });
  subgraphs_.clear();
}

abi::Status Session::prepare(abi::Context* context, abi::Delegate* delegate) {
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
    session->subgraphs_.push_back({context, context->GetExecutionPlan, context->GetNodeAndRegistration, {}});
    Registry& registry = Registry::get();
    std::unique_lock lock(registry.mutex);
    registry.contexts[context] = session;
  }
  context->profiler = static_cast<abi::Profiler*>(session);
  return abi::kOk;
}

bool Session::looks_expected(abi::Context* context) const {
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

int Session::hook() {
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
  abi::IntArray* plan = nullptr;
  if (subgraph.get_execution_plan(subgraph.context, &plan) != abi::kOk) return 0;
  int hooked = 0;
  for (int i = 0; i < plan->size; ++i) {
    abi::Node* node = nullptr;
    abi::Registration* registration = nullptr;
    const int index = plan->data[i];
    if (subgraph.get_node(subgraph.context, index, &node, &registration) != abi::kOk) continue;
    // Ops registered through the opaque API are invoked by another path, which does not read `invoke`.
    if (registration->registration_external != nullptr || registration->invoke == nullptr) continue;
    if (registration->invoke != &Session::trampoline) subgraph.originals[index] = registration->invoke;
    auto original = subgraph.originals.find(index);
    if (original == subgraph.originals.end()) continue;  // wrapped by another session
    registration->invoke = &Session::trampoline;
    registry.hooks[node] = {this,  subgraph.context, subgraph.get_node, original->second, static_cast<int>(number),
                            index};
    ++hooked;
  }
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

abi::Status Session::trampoline(abi::Context* context, abi::Node* node) {
  Hook hook;
  if (!find_hook(context, node, &hook)) {
    context->ReportError(context, "qprof: the op profiler lost a node; load the model without per-op timing");
    return abi::kError;
  }
  return hook.session->timed(hook, context, node);
}

// Whether the hook is still that of the node at this address: another node may have moved to where this one stood.
bool Session::Hook::stands_before(abi::Context* running, abi::Node* node_at) const {
  abi::Node* current = nullptr;
  abi::Registration* registration = nullptr;
  return running == context && get_node(context, node, &current, &registration) == abi::kOk && current == node_at;
}

bool Session::find_hook(abi::Context* context, abi::Node* node, Hook* hook) {
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
bool Session::rehook(abi::Context* context, abi::Node* node, Hook* hook) {
  Registry& registry = Registry::get();
  std::unique_lock lock(registry.mutex);
  for (size_t s = 0; s < subgraphs_.size(); ++s) {
    if (subgraphs_[s].context != context) continue;
    hook_subgraph(registry, s);
    auto found = registry.hooks.find(node);
    if (found == registry.hooks.end()) return false;
    *hook = found->second;
    return true;
  }
  return false;
}

abi::Status Session::timed(const Hook& hook, abi::Context* context, abi::Node* node) {
  if (!recording_) return hook.original(context, node);
  const int outer_subgraph = current_subgraph_;
  const int outer_node = current_node_;
  current_subgraph_ = hook.subgraph;
  current_node_ = hook.node;
  const int64_t start_ns = monotonic_ns();
  const abi::Status status = hook.original(context, node);
  const int64_t end_ns = monotonic_ns();
  current_subgraph_ = outer_subgraph;
  current_node_ = outer_node;
  records_.push_back({RecordKind::kNode, inference_, hook.subgraph, hook.node, -1, -1, start_ns, end_ns - start_ns, 0});
  return status;
}

void Session::AddEvent(const char* tag, int type, uint64_t metric, int64_t metadata1, int64_t) {
  // Other event types carry other metrics under the same call (a telemetry event's is 2^32).
  if (!recording_ || (type != abi::kDelegateOperatorInvoke && type != abi::kDelegateProfiledOperatorInvoke)) return;
  const int kernel = static_cast<int>(metadata1);
  records_.push_back({RecordKind::kKernel, inference_, current_subgraph_, current_node_, kernel,
                      kernel_name(kernel, tag), 0, 0, static_cast<int64_t>(metric)});
}

int Session::kernel_name(int kernel, const char* tag) {
  const uint64_t key = (static_cast<uint64_t>(current_subgraph_ & 0xffff) << 48) |
                       (static_cast<uint64_t>(current_node_ & 0xffffff) << 24) | static_cast<uint64_t>(kernel & 0xffffff);
  auto [entry, is_new] = kernel_names_.try_emplace(key, -1);
  if (is_new) entry->second = intern(tag);
  return entry->second;
}

int Session::intern(const char* tag) {
  auto [entry, is_new] = name_ids_.try_emplace(tag == nullptr ? "" : tag, static_cast<int>(names_.size()));
  if (is_new) names_.push_back(entry->first);
  return entry->second;
}

std::vector<NodeInfo> Session::nodes(int subgraph) const {
  std::vector<NodeInfo> result;
  const Subgraph& info = subgraphs_.at(static_cast<size_t>(subgraph));
  abi::IntArray* plan = nullptr;
  if (info.get_execution_plan(info.context, &plan) != abi::kOk) return result;
  for (int i = 0; i < plan->size; ++i) {
    abi::Node* node = nullptr;
    abi::Registration* registration = nullptr;
    if (info.get_node(info.context, plan->data[i], &node, &registration) != abi::kOk) continue;
    NodeInfo entry{plan->data[i], registration->builtin_code,
                   registration->custom_name == nullptr ? "" : registration->custom_name,
                   node->delegate != nullptr, registration->invoke == &Session::trampoline, {}};
    // A delegate of the opaque API keeps other parameters there.
    if (entry.is_delegate && node->builtin_data != nullptr && registration->registration_external == nullptr) {
      const abi::IntArray* members = static_cast<abi::DelegateParams*>(node->builtin_data)->nodes_to_replace;
      entry.members.assign(members->data, members->data + members->size);
    }
    result.push_back(std::move(entry));
  }
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
                                                 void (*report_error)(const char*)) {
  for (int i = 0; i < count; ++i) {
    if (std::strcmp(keys[i], "session") != 0) continue;
    if (auto* delegate = qprof::litert::Session::attach(std::strtoll(values[i], nullptr, 10))) return delegate;
  }
  if (report_error != nullptr) report_error("qprof: the option 'session' names no op profiler that is free");
  return nullptr;
}

QPROF_EXPORT void tflite_plugin_destroy_delegate(void* delegate) {
  if (delegate != nullptr) qprof::litert::Session::detach(static_cast<qprof::litert::abi::Delegate*>(delegate));
}
