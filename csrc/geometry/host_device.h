// Marks a function for host and device, so that geometry is written once and tested on the host.
#pragma once

#ifdef __CUDACC__
#define DECONVKIT_HD __host__ __device__
#else
#define DECONVKIT_HD
#endif
