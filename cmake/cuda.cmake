# SPDX-License-Identifier: Apache-2.0
# vastmax_cuda: cuda/kernels and the host code around them, for GPUs (nvcc) or for the SIMT machine on the host (g++).

# OFF until it has run on a GPU.
set(VASTMAX_CUDA OFF CACHE STRING "CUDA backend: AUTO (if nvcc is found), ON, OFF, or SIMT (on the host, for tests)")
set_property(CACHE VASTMAX_CUDA PROPERTY STRINGS AUTO ON OFF SIMT)
set(backend ${VASTMAX_CUDA})
if(NOT backend MATCHES "^(AUTO|ON|OFF|SIMT)$")
  message(FATAL_ERROR "VASTMAX_CUDA is ${backend}; accepted: AUTO, ON, OFF, SIMT")
endif()
if(backend STREQUAL "AUTO" OR backend STREQUAL "ON")
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(backend ON)
  elseif(backend STREQUAL "ON")
    message(FATAL_ERROR "VASTMAX_CUDA is ON but nvcc was not found: set CUDACXX or CMAKE_CUDA_COMPILER (docs/cuda.md)")
  else()
    set(backend OFF)
  endif()
endif()
set(VASTMAX_CUDA_BACKEND ${backend})
if(backend STREQUAL "OFF")
  return()
endif()

if(backend STREQUAL "ON")
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90) # 90 brings PTX for what comes after it
  endif()
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
  set_source_files_properties(${kernels} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "-x;c++;-march=native;-O2")
  file(GLOB machine CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cuda/simt/*.cpp)
  target_sources(vastmax_cuda PRIVATE ${machine})
  target_include_directories(vastmax_cuda PUBLIC ${PROJECT_SOURCE_DIR}/cuda/simt/include)
  target_compile_definitions(vastmax_cuda PUBLIC VASTMAX_SIMT)
else()
  set_target_properties(vastmax_cuda PROPERTIES CUDA_STANDARD 20 CUDA_EXTENSIONS OFF CUDA_RUNTIME_LIBRARY Static)
  find_package(CUDAToolkit REQUIRED)
  target_link_libraries(vastmax_cuda PUBLIC CUDA::cudart_static)
  # No fused multiply-adds but those that the code names: the same bits as on the CPU.
  target_compile_options(vastmax_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-fmad=false --Werror=all-warnings -Xptxas=-v>)
endif()
