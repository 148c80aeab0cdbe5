// Copyright (c) mmface authors. Licensed under the Apache License 2.0.
// What ran on the device, and what made the host wait for it.
#include "npusim.h"

#include <memory>
#include <mutex>

namespace npusim {
namespace {

std::mutex mutex;
std::map<std::string, int64_t> ops;
std::map<std::string, int64_t> waits;
std::shared_ptr<Listener> wait_listener;
thread_local int kernel_depth = 0;

}  // namespace

InsideKernel::InsideKernel() { ++kernel_depth; }
InsideKernel::~InsideKernel() { --kernel_depth; }

void count_op(const std::string& name) {
  std::lock_guard<std::mutex> lock(mutex);
  ++ops[name];
}

std::map<std::string, int64_t> op_counts() {
  std::lock_guard<std::mutex> lock(mutex);
  return ops;
}

void note_wait(const std::string& kind) {
  if (kernel_depth > 0) return;
  std::shared_ptr<Listener> listener;
  {
    std::lock_guard<std::mutex> lock(mutex);
    ++waits[kind];
    listener = wait_listener;
  }
  // Outside the lock: it takes Python's, and another thread may hold that and want ours.
  if (listener) (*listener)(kind);
}

std::map<std::string, int64_t> wait_counts() {
  std::lock_guard<std::mutex> lock(mutex);
  return waits;
}

void reset_counts() {
  std::lock_guard<std::mutex> lock(mutex);
  ops.clear();
  waits.clear();
}

void set_wait_listener(Listener listener) {
  auto fresh = listener ? std::make_shared<Listener>(std::move(listener)) : nullptr;
  std::lock_guard<std::mutex> lock(mutex);
  wait_listener.swap(fresh);  // what was there before dies after the lock is released
}

}  // namespace npusim
