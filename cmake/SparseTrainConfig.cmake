# find_package(SparseTrain): targets SparseTrain::core (torch-free) and, where it was built,
# SparseTrain::ops (the operators; needs torch's folder in CMAKE_PREFIX_PATH).
if(EXISTS "${CMAKE_CURRENT_LIST_DIR}/SparseTrainOps.cmake")
  include("${CMAKE_CURRENT_LIST_DIR}/LibTorch.cmake")
  include("${CMAKE_CURRENT_LIST_DIR}/SparseTrainOps.cmake")
endif()
include("${CMAKE_CURRENT_LIST_DIR}/SparseTrainCore.cmake")
