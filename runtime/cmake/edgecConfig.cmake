# find_package(edgec CONFIG REQUIRED)   where CMake installed the runtime, or with -Dedgec_DIR=$(edgec --cmake-dir)
#
# edgec::edgec       the runtime (static): threads, opening libraries, timing; a model alone does not need it
# edgec::rt          the same as one shared library, where CMake installed it
# edgec_add_model    compiles a model as part of the build: see edgecAddModel.cmake
include(CMakeFindDependencyMacro)
if(NOT CMAKE_SYSTEM_NAME STREQUAL "Generic")
  set(THREADS_PREFER_PTHREAD_FLAG ON)
  find_dependency(Threads)
endif()
if(EXISTS "${CMAKE_CURRENT_LIST_DIR}/edgecTargets.cmake")
  include("${CMAKE_CURRENT_LIST_DIR}/edgecTargets.cmake")
elseif(NOT TARGET edgec::edgec) # beside its sources: a checkout, or the Python package
  add_subdirectory("${CMAKE_CURRENT_LIST_DIR}/.." edgec-runtime EXCLUDE_FROM_ALL)
endif()
include("${CMAKE_CURRENT_LIST_DIR}/edgecAddModel.cmake")
