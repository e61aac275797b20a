# Read by find_package(SparseTrain). Defines the targets SparseTrain::core (without torch) and, if
# it was built, SparseTrain::ops (the operators; CMAKE_PREFIX_PATH must name torch's folder).
if(EXISTS "${CMAKE_CURRENT_LIST_DIR}/SparseTrainOps.cmake")
  include("${CMAKE_CURRENT_LIST_DIR}/LibTorch.cmake")
  include("${CMAKE_CURRENT_LIST_DIR}/SparseTrainOps.cmake")
endif()
include("${CMAKE_CURRENT_LIST_DIR}/SparseTrainCore.cmake")
