// Per-op timing inside a LiteRT interpreter: a delegate that claims no node, but times every one.
//
// A session belongs to one interpreter. The interpreter loads this very shared object as an external delegate
// (`tflite_plugin_create_delegate`, with the session's number as its option); the delegate's Prepare saves each
// subgraph's context and plants a tflite::Profiler, which makes XNNPACK report the time of its kernels. After
// AllocateTensors, `hook` puts a timing trampoline in front of each node's invoke.
//
// No exception of ours leaves through a frame of LiteRT, whose C interface cannot carry one: what it calls is noexcept,
// or, where the op itself runs inside (`trampoline`), throws nothing but what the op threw. Where memory runs out the
// inference goes on, and what could not be recorded is counted.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "machine_state.h"
#include "tflite_abi.h"

namespace qprof::litert {

struct Registry;

enum class RecordKind : int32_t { kNode = 0, kKernel = 1 };

// One timing. A node: CLOCK_MONOTONIC nanoseconds in start_ns and duration_ns. A kernel inside a delegate's node:
// duration_us in whole microseconds (as XNNPACK reports it), `kernel` its position in the delegate's own order and
// `name` an index into the session's names; where XNNPACK's own clock was read along (see fine_clock.h) also start_ns
// and duration_ns, which holds as many readings of the clock as `readings` says, 0 where it was not.
// The layout is read by NumPy: keep `record_dtype` (_op_profiler.pyx) equal.
struct Record {
  RecordKind kind;
  int32_t inference;
  int32_t subgraph;
  int32_t node;
  int32_t kernel;
  int32_t name;
  int64_t start_ns;
  int64_t duration_ns;
  int64_t duration_us;
  int64_t readings;
};

struct NodeInfo {
  int index;
  int builtin_code;
  std::string custom_name;
  bool is_delegate;
  bool is_hooked;
  std::vector<int> members;  // of a delegate's node: the nodes it replaced, in their order
};

struct TensorInfo {
  std::string name;
  int allocation_type;
  uint64_t bytes;
  uint64_t address;
};

class Session final : public abi::Profiler {
 public:
  // A new session, held by the caller until `release`; its interpreter's delegate holds it as well.
  // `kernels`: whether delegates report their kernels' times, for which XNNPACK runs a little slower.
  static Session* create(bool kernels);
  void release() noexcept;

  int64_t id() const { return id_; }
  // A subgraph of the model as its flatbuffer has it, and whether a context looked like none of them: then the struct
  // layouts do not fit this runtime, and that context was left alone.
  void expect_subgraph(uint64_t tensors, uint64_t ops) { expected_.push_back({tensors, ops}); }
  bool refused() const { return refused_; }
  int subgraph_count() const { return static_cast<int>(subgraphs_.size()); }

  // Wrap every node's invoke that is not wrapped yet; the number of nodes that are wrapped afterwards. Throws
  // std::bad_alloc; the nodes that are wrapped by then are timed.
  int hook();
  // Put the original functions back. To be called before the interpreter is resized or allocated anew.
  void unhook();

  // What is done to the machine's state before every op, also while nothing is recorded.
  void set_before(Before before) { before_ = before; }
  void set_recording(bool on) { recording_ = on; }
  void set_inference(int inference) { inference_ = inference; }
  const std::vector<Record>& records() const { return records_; }
  void clear() { records_.clear(); }
  void reserve(size_t count) { records_.reserve(count); }
  // Events that went unrecorded for want of memory, ever. A delegate's node and its kernels are kept or lost together:
  // the time of a kernel that is missing would be taken for that of the others.
  uint64_t lost() const { return lost_; }
  const std::vector<std::string>& names() const { return names_; }

  // The execution plan of a subgraph as it stands now, delegates' nodes included. Empty where it cannot be read.
  std::vector<NodeInfo> nodes(int subgraph) const;
  // Node indices of the flatbuffer's own ops whose opcode can be read, delegated or not: [index] -> builtin code.
  std::vector<int> builtin_codes(int subgraph, int count) const;
  std::vector<TensorInfo> tensors(int subgraph) const;

  // tflite::Profiler: only the kernels' times matter, the rest is ignored.
  uint32_t BeginEvent(const char*, int, int64_t, int64_t) noexcept override { return 0; }
  void EndEvent(uint32_t, int64_t, int64_t) noexcept override {}
  void EndEvent(uint32_t) noexcept override {}
  void AddEvent(const char* tag, int type, uint64_t metric, int64_t metadata1, int64_t metadata2) noexcept override;
  void AddEventWithData(const char*, int, const void*) noexcept override {}

  // The C entry points of the plugin.
  static abi::Delegate* attach(int64_t id) noexcept;
  static void detach(abi::Delegate* delegate) noexcept;

 private:
  using Invoke = abi::Status (*)(abi::Context*, abi::Node*);
  using GetNode = abi::Status (*)(abi::Context*, int, abi::Node**, abi::Registration**);

  // Outside Prepare the interpreter replaces these two functions by refusing ones; the saved pointers still work.
  struct Subgraph {
    abi::Context* context;
    abi::Status (*get_execution_plan)(abi::Context*, abi::IntArray**);
    GetNode get_node;
    std::unordered_map<int, Invoke> originals;  // node -> the function that the trampoline stands in front of
  };

  struct Hook {
    Session* session;
    abi::Context* context;
    GetNode get_node;
    Invoke original;
    int subgraph;
    int node;
    bool is_delegate;

    bool stands_before(abi::Context* running, abi::Node* node_at) const noexcept;
  };

  // The node whose op runs.
  struct Current {
    int subgraph = -1;
    int node = -1;
    bool is_torn = false;  // one of its kernels is lost
  };
  class Running;

  struct SubgraphSize {
    uint64_t tensors;
    uint64_t ops;
  };

  explicit Session(bool kernels);
  ~Session() override = default;
  bool looks_expected(abi::Context* context) const noexcept;
  bool adopt(abi::Context* context) noexcept;

  static abi::Status prepare(abi::Context* context, abi::Delegate* delegate) noexcept;
  static abi::Status trampoline(abi::Context* context, abi::Node* node);
  static bool find_hook(abi::Context* context, abi::Node* node, Hook* hook) noexcept;
  bool rehook(abi::Context* context, abi::Node* node, Hook* hook) noexcept;
  bool find_original(size_t number, abi::Node* node, Hook* hook) noexcept;
  uint64_t unwrapped_nodes(size_t number) const noexcept;
  int hook_subgraph(Registry& registry, size_t number);
  template <class Action>
  static void for_each_node(const Subgraph& subgraph, Action action);
  void forget_interpreter(Registry& registry) noexcept;
  abi::Status timed(const Hook& hook, abi::Context* context, abi::Node* node);
  abi::Status timed_delegate(const Hook& hook, abi::Context* context, abi::Node* node);
  void refine_kernels(const Hook& hook, std::span<const int64_t> readings) noexcept;
  bool is_kernel_of(const Record& record, const Hook& hook) const noexcept;
  void keep_node(const Hook& hook, int64_t start_ns, int64_t duration_ns) noexcept;
  int intern(const char* tag);
  int kernel_name(int kernel, const char* tag);

  int64_t id_;
  const bool kernels_;
  int references_ = 1;
  abi::Delegate delegate_{};
  std::vector<Subgraph> subgraphs_;
  std::vector<Record> records_;
  std::unique_ptr<int64_t[]> readings_;  // room for those of a delegate's clock
  std::vector<std::string> names_;
  std::unordered_map<std::string, int> name_ids_;
  // (subgraph, node, kernel) -> name, so that no text is hashed per event.
  std::unordered_map<uint64_t, int> kernel_names_;
  std::vector<SubgraphSize> expected_;
  bool attached_ = false;
  bool refused_ = false;
  bool recording_ = false;
  Before before_ = Before::kNothing;
  int inference_ = 0;
  uint64_t lost_ = 0;
  Current current_;
  Session* next_retired_ = nullptr;

  friend struct Registry;
};

}  // namespace qprof::litert
