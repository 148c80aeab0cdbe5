// Copyright (c) mmface authors. Licensed under the Apache License 2.0.
// A pretended accelerator for tests: a PyTorch PrivateUse1 device whose memory is host memory
// and whose kernels are those of the CPU. What the parts of the library share.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Allocator.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace npusim {

constexpr auto kNpu = c10::DeviceType::PrivateUse1;

// ---- device.cpp
// Number of devices: environment variable NPUSIM_DEVICES, 2 without it; of these, those that
// ASCEND_RT_VISIBLE_DEVICES names, if it is set.
c10::DeviceIndex device_count();
// The calling thread's device, as on a real accelerator.
c10::DeviceIndex current_device();
void set_current_device(c10::DeviceIndex index);
c10::Allocator* device_allocator();
bool is_pinned(const void* pointer);

struct MemoryUse {
  int64_t now = 0;
  int64_t peak = 0;
};
MemoryUse memory_use(c10::DeviceIndex index);
void reset_peak_memory(c10::DeviceIndex index);
// Wait until the threads of autograd have done everything given to them so far.
void settle_autograd_threads();

// ---- tensors.cpp
// The same memory as a CPU tensor. The view does not keep the memory alive.
at::Tensor host_view(const at::Tensor& tensor);

// ---- counters.cpp
// While one lives, the thread is inside a kernel of ours: what that kernel copies to reach the
// CPU's kernels is no traffic of the simulated device and is not counted.
class InsideKernel {
 public:
  InsideKernel();
  ~InsideKernel();
};

// An operator ran on the device.
void count_op(const std::string& name);
std::map<std::string, int64_t> op_counts();

// Something that makes the host wait for a real device: a copy to the host ("copy"), a value
// read ("item"), an operator whose result's shape depends on the data (its name), or a copy to the
// device from memory that is not pinned ("upload").
void note_wait(const std::string& kind);
std::map<std::string, int64_t> wait_counts();
void reset_counts();

// Called for every wait, on whatever thread, besides the counting; empty for none.
using Listener = std::function<void(const std::string&)>;
void set_wait_listener(Listener listener);

}  // namespace npusim
