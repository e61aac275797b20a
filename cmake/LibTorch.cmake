# Defines LibTorch::LibTorch, torch's C++ libraries for the CPU. CMAKE_PREFIX_PATH must name the
# folder that holds torch's include/ and lib/:
#   python -c "import torch; print(torch.__path__[0])"
# TorchConfig.cmake is not used, because it requires a CUDA toolkit if torch was built with one.
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
