# SPDX-License-Identifier: Apache-2.0
# vastmax_wants_cuda(WANTED): whether kernels are likely to run, on this machine or on those that were named.  They take
# twice as long to compile as all the rest.
function(vastmax_wants_cuda wanted)
  set(${wanted} OFF PARENT_SCOPE)
  find_library(driver NAMES libcuda.so.1 NO_CACHE)
  if(DEFINED ENV{CUDAARCHS} OR DEFINED CMAKE_CUDA_ARCHITECTURES OR driver OR EXISTS /proc/driver/nvidia/version)
    set(${wanted} ON PARENT_SCOPE)
  endif()
endfunction()

# vastmax_find_nvcc(NVCC WHY_NOT): an nvcc that can build cuda/, or in one line why there is none.  CMake's own check of
# a CUDA compiler would end the configuration.

function(vastmax_find_nvcc nvcc why_not)
  set(${nvcc} "" PARENT_SCOPE)
  if(CMAKE_CUDA_COMPILER)
    set(found ${CMAKE_CUDA_COMPILER})
  else()
    find_program(found NAMES $ENV{CUDACXX} nvcc PATHS ENV CUDA_HOME /usr/local/cuda PATH_SUFFIXES bin NO_CACHE
                 NO_CMAKE_SYSTEM_PATH)
  endif()
  if(NOT found)
    set(${why_not} "nvcc was not found" PARENT_SCOPE)
    return()
  endif()

  # What the build needs: C++20, these architectures, a host compiler that nvcc accepts, the static runtime.
  set(probe ${CMAKE_CURRENT_BINARY_DIR}/CMakeFiles/vastmax_nvcc_probe)
  file(WRITE ${probe}.cu "#include <cstdint>\n"
                         "__global__ void kernel(unsigned* y) { [&]<class T>(T x) { *y = x; }(threadIdx.x); }\n"
                         "int main() { kernel<<<1, 1>>>(nullptr); }\n")
  set(options -std=c++20)
  foreach(name IN LISTS CMAKE_CUDA_ARCHITECTURES)
    if(name MATCHES "^([0-9]+[af]?)")
      list(APPEND options -gencode arch=compute_${CMAKE_MATCH_1},code=sm_${CMAKE_MATCH_1})
    endif()
  endforeach()
  if(CMAKE_CUDA_HOST_COMPILER)
    list(APPEND options -ccbin ${CMAKE_CUDA_HOST_COMPILER})
  elseif(DEFINED ENV{CUDAHOSTCXX})
    list(APPEND options -ccbin $ENV{CUDAHOSTCXX})
  endif()
  execute_process(COMMAND ${found} ${options} ${probe}.cu -o ${probe} RESULT_VARIABLE status OUTPUT_VARIABLE said
                  ERROR_VARIABLE said)
  if(status EQUAL 0)
    set(${nvcc} ${found} PARENT_SCOPE)
    return()
  endif()
  execute_process(COMMAND ${found} --version RESULT_VARIABLE ignored OUTPUT_VARIABLE version ERROR_QUIET)
  string(REGEX MATCH "release [0-9.]+" version "${version}")
  string(REGEX MATCH "[^\n]*(error|fatal|cannot find)[^\n]*" error "${said}")
  list(JOIN CMAKE_CUDA_ARCHITECTURES ", " architectures)
  set(${why_not} "${found} ${version} cannot compile C++20 for ${architectures}: ${error} (exit status ${status})"
      PARENT_SCOPE)
endfunction()
