// Copyright (c) mmface authors. Licensed under the Apache License 2.0.
// Memory, current device, streams and events of the simulated accelerator.
#include "npusim.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/ops/ones.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <sstream>

namespace npusim {
namespace {

constexpr int kMostDevices = 64;

thread_local c10::DeviceIndex device_of_thread = 0;

std::mutex memory_mutex;
std::vector<MemoryUse> memory_of_device(kMostDevices);
std::map<const char*, size_t> pinned_blocks;  // by address: length

void* host_block(size_t bytes) {
  if (bytes == 0) return nullptr;
  void* data = nullptr;
  TORCH_CHECK(posix_memalign(&data, 64, bytes) == 0, "simulated NPU: out of memory");
  return data;
}

struct Block {
  void* data;
  size_t bytes;
  c10::DeviceIndex device;
};

void free_block(void* context) {
  auto* block = static_cast<Block*>(context);
  std::free(block->data);
  {
    std::lock_guard<std::mutex> lock(memory_mutex);
    memory_of_device[block->device].now -= static_cast<int64_t>(block->bytes);
  }
  delete block;
}

struct DeviceAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    auto* block = new Block{host_block(bytes), bytes, device_of_thread};
    std::lock_guard<std::mutex> lock(memory_mutex);
    auto& use = memory_of_device[block->device];
    use.now += static_cast<int64_t>(bytes);
    use.peak = std::max(use.peak, use.now);
    return {block->data, block, &free_block, c10::Device(kNpu, block->device)};
  }
  void copy_data(void* target, const void* source, size_t bytes) const final {
    default_copy_data(target, source, bytes);
  }
};
DeviceAllocator the_device_allocator;
REGISTER_ALLOCATOR(kNpu, &the_device_allocator);

void free_pinned(void* data) {
  {
    std::lock_guard<std::mutex> lock(memory_mutex);
    pinned_blocks.erase(static_cast<char*>(data));
  }
  std::free(data);
}

// Ordinary memory that is remembered as pinned.
struct PinnedAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    void* data = host_block(bytes);
    std::lock_guard<std::mutex> lock(memory_mutex);
    pinned_blocks[static_cast<char*>(data)] = bytes;
    return {data, data, &free_pinned, c10::Device(c10::DeviceType::CPU)};
  }
  void copy_data(void* target, const void* source, size_t bytes) const final {
    default_copy_data(target, source, bytes);
  }
};
PinnedAllocator the_pinned_allocator;

// Everything runs in the calling thread, so streams and events have nothing to do.
struct DeviceGuard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kNpu; }
  c10::Device exchangeDevice(c10::Device device) const override {
    const auto before = getDevice();
    uncheckedSetDevice(device);
    return before;
  }
  c10::Device getDevice() const override { return {kNpu, device_of_thread}; }
  void setDevice(c10::Device device) const override { set_current_device(device.index()); }
  void uncheckedSetDevice(c10::Device device) const noexcept override {
    if (device.index() >= 0) device_of_thread = device.index();
  }
  c10::DeviceIndex deviceCount() const noexcept override { return device_count(); }
  c10::Stream getStream(c10::Device device) const override {
    return c10::Stream(c10::Stream::DEFAULT, device);
  }
  c10::Stream getDefaultStream(c10::Device device) const override { return getStream(device); }
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool) const override {
    return getStream(device);
  }
  c10::Stream getNewStream(c10::Device device, int) const override { return getStream(device); }
  c10::Stream exchangeStream(c10::Stream stream) const override { return stream; }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
  void synchronizeDevice(const c10::DeviceIndex) const override {}
  void recordDataPtrOnStream(const c10::DataPtr&, const c10::Stream&) const override {}
  void record(void** event, const c10::Stream&, const c10::DeviceIndex,
              const c10::EventFlag) const override {
    static char any_event;
    *event = &any_event;
  }
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void synchronizeEvent(void*) const override {}
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, DeviceGuard);

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return device_count(); }
  void setCurrentDevice(c10::DeviceIndex device) const override { set_current_device(device); }
  c10::DeviceIndex getCurrentDevice() const override { return device_of_thread; }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex device) const override {
    const auto before = device_of_thread;
    set_current_device(device);
    return before;
  }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex device) const override {
    return exchangeDevice(device);
  }
  c10::Allocator* getPinnedMemoryAllocator() const override { return &the_pinned_allocator; }
  bool isPinnedPtr(const void* data) const override { return is_pinned(data); }
  at::Device getDeviceFromPtr(void*) const override { return {kNpu, device_of_thread}; }
  // The CPU's generator: the same seed gives the same numbers on both devices, unlike on an NPU.
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override {
    return at::detail::getDefaultCPUGenerator();
  }
  at::Generator getNewGenerator(c10::DeviceIndex) const override {
    return at::detail::createCPUGenerator();
  }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t bytes) const override {
    auto* impl = storage.unsafeGetStorageImpl();
    auto fresh = the_device_allocator.allocate(bytes);
    const size_t kept = std::min(bytes, impl->nbytes());
    if (kept > 0) std::memcpy(fresh.get(), impl->data(), kept);
    impl->set_data_ptr_noswap(std::move(fresh));
    impl->set_nbytes(bytes);
  }
};

const bool hooks_registered = [] {
  static Hooks hooks;
  at::RegisterPrivateUse1HooksInterface(&hooks);
  return true;
}();

}  // namespace

c10::DeviceIndex device_count() {
  static const auto count = [] {
    const char* value = std::getenv("NPUSIM_DEVICES");
    const int present = std::clamp(value == nullptr ? 2 : std::atoi(value), 1, kMostDevices);
    const char* visible = std::getenv("ASCEND_RT_VISIBLE_DEVICES");
    if (visible == nullptr) return static_cast<c10::DeviceIndex>(present);
    int named = 0;
    std::istringstream list(visible);
    for (std::string number; std::getline(list, number, ',');) named += std::stoi(number) < present;
    return static_cast<c10::DeviceIndex>(named);
  }();
  return count;
}

c10::DeviceIndex current_device() { return device_of_thread; }

void set_current_device(c10::DeviceIndex index) {
  if (index < 0) return;  // "the current one"
  TORCH_CHECK(index < device_count(), "simulated NPU: there is no device npu:", int(index),
              ", there are ", int(device_count()), " (environment variable NPUSIM_DEVICES)");
  device_of_thread = index;
}

c10::Allocator* device_allocator() { return &the_device_allocator; }

bool is_pinned(const void* pointer) {
  const auto* address = static_cast<const char*>(pointer);
  std::lock_guard<std::mutex> lock(memory_mutex);
  auto after = pinned_blocks.upper_bound(address);
  if (after == pinned_blocks.begin()) return false;
  --after;
  return address < after->first + after->second;
}

MemoryUse memory_use(c10::DeviceIndex index) {
  std::lock_guard<std::mutex> lock(memory_mutex);
  return memory_of_device.at(index);
}

void reset_peak_memory(c10::DeviceIndex index) {
  std::lock_guard<std::mutex> lock(memory_mutex);
  auto& use = memory_of_device.at(index);
  use.peak = use.now;
}

void settle_autograd_threads() {
  // Each device has a thread that takes its work from a queue, and this is the last in the queue.
  // The tensors never meet Python, so that the thread needs no lock to let go of them.
  for (c10::DeviceIndex index = 0; index < device_count(); ++index) {
    at::ones({}, at::TensorOptions().device(c10::Device(kNpu, index)))
        .set_requires_grad(true)
        .backward();
  }
}

}  // namespace npusim
