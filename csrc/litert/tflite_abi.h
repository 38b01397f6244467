// The part of the TensorFlow Lite C ABI that the op profiler touches, declared by hand.
//
// No wheel ships these headers. The layouts are those of tensorflow/lite/core/c/common.h and
// tensorflow/lite/core/api/profiler.h, unchanged from TensorFlow 2.19 to LiteRT 2.3; the Python side checks them
// against the flatbuffer at start-up (`qprof.runtimes.litert.guard`) before a single time is believed.
#pragma once

#include <cstddef>
#include <cstdint>

namespace qprof::litert::abi {

extern "C" {

enum Status { kOk = 0, kError = 1 };

// TfLiteIntArray: `size`, then that many ints.
struct IntArray {
  int size;
  int data[1];
};

struct Context;
struct Node;
struct Registration;
struct Delegate;
struct Tensor;

// TfLiteContext, up to the profiler.
struct Context {
  size_t tensors_size;
  Status (*GetExecutionPlan)(Context*, IntArray**);
  Tensor* tensors;
  void* impl;
  Status (*ResizeTensor)(Context*, Tensor*, IntArray*);
  void (*ReportError)(Context*, const char*, ...);
  Status (*AddTensors)(Context*, int, int*);
  Status (*GetNodeAndRegistration)(Context*, int, Node**, Registration**);
  void* ReplaceNodeSubsetsWithDelegateKernels;
  int recommended_num_threads;
  void* GetExternalContext;
  void* SetExternalContext;
  bool allow_fp32_relax_to_fp16;
  void* profiler;
};

// TfLiteRegistration.
struct Registration {
  void* init;
  void* free;
  Status (*prepare)(Context*, Node*);
  Status (*invoke)(Context*, Node*);
  void* profiling_string;
  int32_t builtin_code;
  const char* custom_name;
  int version;
  void* registration_external;
  void* async_kernel;
  uint64_t inplace_operator;
};

// TfLiteNode.
struct Node {
  IntArray* inputs;
  IntArray* outputs;
  IntArray* intermediates;
  IntArray* temporaries;
  void* user_data;
  void* builtin_data;
  const void* custom_initial_data;
  int custom_initial_data_size;
  Delegate* delegate;
  bool might_have_side_effect;
};

// TfLiteDelegateParams: the `builtin_data` of a delegate's node.
struct DelegateParams {
  Delegate* delegate;
  IntArray* nodes_to_replace;
  IntArray* input_tensors;
  IntArray* output_tensors;
};

// TfLiteDelegate.
struct Delegate {
  void* data;
  Status (*Prepare)(Context*, Delegate*);
  void* CopyFromBufferHandle;
  void* CopyToBufferHandle;
  void* FreeBufferHandle;
  int64_t flags;
  void* opaque_delegate_builder;
};

// TfLiteTensor.
struct Tensor {
  int type;
  void* data;
  IntArray* dims;
  struct {
    float scale;
    int32_t zero_point;
  } params;
  int allocation_type;
  size_t bytes;
  const void* allocation;
  const char* name;
  Delegate* delegate;
  int buffer_handle;
  bool data_is_stale;
  bool is_variable;
  struct {
    int type;
    void* params;
  } quantization;
  void* sparsity;
  const IntArray* dims_signature;
};

}  // extern "C"

// kTfLiteDelegateFlagsAllowDynamicTensors: without it a graph with dynamic tensors would refuse the delegate.
inline constexpr int64_t kAllowDynamicTensors = 1;

// tflite::Profiler::EventType, the two that carry the time of a kernel inside a delegate.
inline constexpr int kDelegateOperatorInvoke = 4;
inline constexpr int kDelegateProfiledOperatorInvoke = 8;

// tflite::Profiler: the order of the virtual functions is the ABI.
class Profiler {
 public:
  virtual ~Profiler() = default;
  virtual uint32_t BeginEvent(const char* tag, int type, int64_t metadata1, int64_t metadata2) = 0;
  virtual void EndEvent(uint32_t handle, int64_t metadata1, int64_t metadata2) = 0;
  virtual void EndEvent(uint32_t handle) = 0;
  virtual void AddEvent(const char* tag, int type, uint64_t metric, int64_t metadata1, int64_t metadata2) = 0;
  virtual void AddEventWithData(const char* tag, int type, const void* data) = 0;
};

}  // namespace qprof::litert::abi
