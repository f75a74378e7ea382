// Devices, versions and errors: what the module needs of the CUDA runtime besides launches. For host code.
#pragma once
#include <cstdint>
#include <string>

#include "geometry/tensor_map.h"

namespace deconvkit::cuda {

// Where a call runs: torch's current stream on the tensors' device.
struct Stream {
  int device = 0;
  void* handle = nullptr;
};

// As the runtime counts: 13000 is CUDA 13.0. driver is 0 where none is installed.
struct Versions {
  int runtime, driver;
};
Versions versions();

// Makes every kernel ready for a device: loaded, and allowed the shared memory that it asks for. To be called
// once a device, outside of a graph's capture.
void prepare(int device);
// Notes a kernel for prepare(), and the first architecture that has its instructions (90 for 9.0), or the
// only one, else 0; returns its number.
int register_kernel(const void* address, int threads, int64_t shared, int least_architecture,
                    int only_architecture);
int registered_kernels();
// What the kernel of a number was registered with, and what prepare() prepared.
const void* kernel_address(int kernel);

// How many blocks of a kernel a prepared device runs at once; 0 where its code lacks the instructions.
int64_t resident_blocks(int kernel, int device);

// Makes the 128 bytes that the copy engine takes for a box; false where the driver knows no such maps, or
// refuses this one.
bool encode(const TensorBox& box, void* map);

// Throws std::runtime_error with the runtime's reason unless `status` (a cudaError_t) says success; the
// runtime itself forgets the error.
void check(int status, const char* what);

// Makes a device the current one, and the former one again if that was another; which makes a context there,
// so that whoever cares sees to the current device beforehand (python/deconvkit/ops/_library.py).
class DeviceGuard {
 public:
  explicit DeviceGuard(int device);
  ~DeviceGuard();
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int former_;
  bool changed_;
};

}  // namespace deconvkit::cuda
