// Marks a function for host and device, so that geometry is written once and tested on the host.
#pragma once

#ifdef __CUDACC__
#define DECONVKIT_HD __host__ __device__
#elif defined(__GNUC__)
// Always inlined: kernel files are compiled for different processors, and a copy under a shared name could be
// any of theirs.
#define DECONVKIT_HD [[gnu::always_inline]]
#else
#define DECONVKIT_HD
#endif
