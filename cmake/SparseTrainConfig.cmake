# find_package(SparseTrain) defines SparseTrain::core (without torch) and, if they were installed,
# the operators SparseTrain::ops. These need torch's folder in CMAKE_PREFIX_PATH.
if(EXISTS "${CMAKE_CURRENT_LIST_DIR}/SparseTrainOps.cmake")
  include("${CMAKE_CURRENT_LIST_DIR}/LibTorch.cmake")
  include("${CMAKE_CURRENT_LIST_DIR}/SparseTrainOps.cmake")
endif()
include("${CMAKE_CURRENT_LIST_DIR}/SparseTrainCore.cmake")
