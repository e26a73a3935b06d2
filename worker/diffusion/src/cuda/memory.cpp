// What torch's allocator holds on one GPU, through the interface that libc10 gives every accelerator.

#include <c10/core/CachingDeviceAllocator.h>

#include <cstdint>

namespace {

c10::DeviceAllocator *allocator() { return c10::getDeviceAllocator(c10::DeviceType::CUDA); }

constexpr auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);

} // namespace

extern "C" {

// Writes the bytes in use now and at the highest; false when torch cannot say. No exception leaves.
bool warmq_cuda_memory(int8_t device, int64_t *current, int64_t *peak) noexcept try {
  const auto bytes = allocator()->getDeviceStats(device).allocated_bytes[kAll];
  *current = bytes.current;
  *peak = bytes.peak;
  return true;
} catch (...) {
  return false;
}

bool warmq_cuda_reset_peak(int8_t device) noexcept try {
  allocator()->resetPeakStats(device);
  return true;
} catch (...) {
  return false;
}

// Gives memory that no tensor uses back to the driver.
bool warmq_cuda_empty_cache() noexcept try {
  allocator()->emptyCache();
  return true;
} catch (...) {
  return false;
}
}
