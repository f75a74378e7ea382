// How the CUDA kernels are written, so that tests can run them on the CPU.
//
// A kernel is a struct that holds its arguments and has
// - static constexpr int kThreads: threads of a block
// - static constexpr int kResident, if it needs many registers: blocks resident on a multiprocessor at least
// - struct Shared: what the threads of a block share (may be empty)
// - struct Own: what a thread keeps from step to step (may be empty)
// - int64_t steps(int64_t block, int64_t blocks) const
// - void step(int64_t i, const Place&, Shared&, Own&) const, like steps() for host and device
//
// Between two steps all threads of a block meet; within a step none reads what another writes. On the GPU the
// wrapper in launch.cuh calls the steps with __syncthreads() between; on the CPU tests/native/cuda_host.h
// loops over blocks and threads, in any order. All results leave through the stores of number.cuh.
//
// An entry (max_pool2d.cuh, ...) is a template that takes the launcher as its first argument: anything with
// void operator()(const Kernel&, int64_t tiles) const, which launches the kernel as a grid of at most `tiles`
// blocks: a kernel loops while its blocks are fewer.
#pragma once
#include <cstdint>

#include "geometry/host_device.h"

namespace deconvkit::cuda {

struct Place {
  int64_t block, blocks;
  int32_t thread;
};

struct Empty {};

}  // namespace deconvkit::cuda
