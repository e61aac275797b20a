// A function that CUDA kernels and the CPU share.
#pragma once

#ifdef __CUDACC__
#define SPARSETRAIN_HOST_DEVICE __host__ __device__
#else
#define SPARSETRAIN_HOST_DEVICE
#endif
