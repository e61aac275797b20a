# Target LibTorch::LibTorch: torch's C++ libraries for the CPU, from the folder that holds its
# include/ and lib/, which CMAKE_PREFIX_PATH names:
#   python -c "import torch; print(torch.__path__[0])"
# Without TorchConfig.cmake, which asks for a CUDA toolkit wherever torch was built with one.
if(TARGET LibTorch::LibTorch)
  return()
endif()

find_path(LIBTORCH_INCLUDE torch/csrc/autograd/custom_function.h)
find_library(LIBTORCH_CPU torch_cpu)
find_library(LIBTORCH_C10 c10)
if(NOT (LIBTORCH_INCLUDE AND LIBTORCH_CPU AND LIBTORCH_C10))
  message(FATAL_ERROR "SparseTrain: expected CMAKE_PREFIX_PATH to name torch's folder, got "
    "'${CMAKE_PREFIX_PATH}'. python -c \"import torch; print(torch.__path__[0])\" prints it")
endif()

add_library(LibTorch::LibTorch INTERFACE IMPORTED)
set_target_properties(LibTorch::LibTorch PROPERTIES
  INTERFACE_INCLUDE_DIRECTORIES "${LIBTORCH_INCLUDE};${LIBTORCH_INCLUDE}/torch/csrc/api/include"
  INTERFACE_LINK_LIBRARIES "${LIBTORCH_CPU};${LIBTORCH_C10}")
