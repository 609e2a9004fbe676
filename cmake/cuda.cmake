# SPDX-License-Identifier: Apache-2.0
# vastmax_cuda: cuda/kernels and the host code around them, for GPUs (nvcc) or for the SIMT machine on the host (g++).

set(VASTMAX_CUDA AUTO CACHE STRING "CUDA backend: AUTO (with the Python extension, if nvcc can build it), ON, OFF, or SIMT (on the host, for tests)")
set_property(CACHE VASTMAX_CUDA PROPERTY STRINGS AUTO ON OFF SIMT)
set(backend ${VASTMAX_CUDA})
if(NOT backend MATCHES "^(AUTO|ON|OFF|SIMT)$")
  message(FATAL_ERROR "VASTMAX_CUDA is ${backend}; accepted: AUTO, ON, OFF, SIMT")
endif()
if(backend STREQUAL "AUTO" AND NOT VASTMAX_BUILD_PYTHON)
  set(backend OFF)
endif()
if(backend MATCHES "^(AUTO|ON)$")
  if(DEFINED ENV{CUDAARCHS} AND NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES $ENV{CUDAARCHS})
  elseif(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90) # 90 brings PTX for what comes after it
  endif()
  include(cmake/nvcc.cmake)
  vastmax_find_nvcc(nvcc why_not)
  if(nvcc)
    set(backend ON)
  elseif(backend STREQUAL "ON")
    message(FATAL_ERROR "VASTMAX_CUDA is ON, but ${why_not} (docs/cuda.md: Build)")
  else()
    message(STATUS "vastmax: built without CUDA: ${why_not} (docs/cuda.md: Build)")
    set(backend OFF)
  endif()
endif()
set(VASTMAX_CUDA_BACKEND ${backend})
if(backend STREQUAL "OFF")
  return()
endif()

if(backend STREQUAL "ON")
  set(CMAKE_CUDA_COMPILER ${nvcc} CACHE FILEPATH "nvcc")
  enable_language(CUDA)
  if(NOT DEFINED CMAKE_CUDA20_STANDARD_COMPILE_OPTION) # before CMake 3.26
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  endif()
endif()

file(GLOB kernels CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cuda/kernels/*.cu)
file(GLOB host CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cuda/core/*.cpp ${PROJECT_SOURCE_DIR}/cuda/runtime/*.cpp)
add_library(vastmax_cuda STATIC ${kernels} ${host})
target_include_directories(vastmax_cuda PUBLIC ${PROJECT_SOURCE_DIR}/cuda ${PROJECT_SOURCE_DIR}/cpp
                                               ${PROJECT_SOURCE_DIR}/cpp/include)
target_compile_definitions(vastmax_cuda PUBLIC VM_ISA=cuda)

if(backend STREQUAL "SIMT")
  # Never shipped, so it may use what this machine has: without FMA instructions every formula would call libm.
  # Rolled loops compile in half the time and run as fast here; unrolled with checks in line, a unit takes half an hour.
  set(options -x c++ -march=native -g1 -DVASTMAX_ROLLED)
  if(VASTMAX_SANITIZE)
    list(APPEND options -O1 -fno-sanitize=null,object-size)
    if("undefined" IN_LIST VASTMAX_SANITIZE) # tiles too, which are the last member of their class
      list(APPEND options -fsanitize=bounds-strict)
    endif()
    if("address" IN_LIST VASTMAX_SANITIZE)
      list(APPEND options --param=asan-stack=0 --param=asan-instrumentation-with-call-threshold=0)
    endif()
  else()
    list(APPEND options -O2)
  endif()
  set_source_files_properties(${kernels} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "${options}")
  file(GLOB machine CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cuda/simt/*.cpp)
  target_sources(vastmax_cuda PRIVATE ${machine})
  target_include_directories(vastmax_cuda PUBLIC ${PROJECT_SOURCE_DIR}/cuda/simt/include)
  target_compile_definitions(vastmax_cuda PUBLIC VASTMAX_SIMT VASTMAX_CUDA_ARCHITECTURES="0")
else()
  string(REPLACE ";" "," architectures "${CMAKE_CUDA_ARCHITECTURES}") # ; would end the definition
  target_compile_definitions(vastmax_cuda PUBLIC "VASTMAX_CUDA_ARCHITECTURES=\"${architectures}\"")
  set_target_properties(vastmax_cuda PROPERTIES CUDA_STANDARD 20 CUDA_EXTENSIONS OFF CUDA_RUNTIME_LIBRARY Static)
  # Not by FindCUDAToolkit, which wants the shared runtime under a name that the packages of PyPI lack.
  find_library(VASTMAX_CUDART cudart_static HINTS ${CMAKE_CUDA_HOST_IMPLICIT_LINK_DIRECTORIES} REQUIRED)
  target_include_directories(vastmax_cuda SYSTEM PUBLIC ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
  target_link_libraries(vastmax_cuda PUBLIC ${VASTMAX_CUDART} Threads::Threads ${CMAKE_DL_LIBS} rt)
  # No fused multiply-adds but those that the code names: the same bits as on the CPU.
  target_compile_options(vastmax_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-fmad=false>)
  if(VASTMAX_WERROR) # and what cuda/gates.py reads
    target_compile_options(vastmax_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:--Werror=all-warnings -Xptxas=-v>)
  endif()
endif()
