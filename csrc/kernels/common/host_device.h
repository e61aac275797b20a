// SPARSETRAIN_HOST_DEVICE marks functions that both CUDA kernels and the CPU call. Used by the
// other headers of this folder.
#pragma once

#ifdef __CUDACC__
#define SPARSETRAIN_HOST_DEVICE __host__ __device__
#else
#define SPARSETRAIN_HOST_DEVICE
#endif
