# SPDX-License-Identifier: Apache-2.0
# vastmax._core, the private extension module.

set(PYBIND11_FINDPYTHON ON)
find_package(Python 3.11 REQUIRED COMPONENTS Interpreter Development.Module)
if(NOT pybind11_DIR) # inside pip the build backend has already pointed CMake at it
  execute_process(COMMAND "${Python_EXECUTABLE}" -m pybind11 --cmakedir OUTPUT_VARIABLE pybind11_DIR
                  OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
find_package(pybind11 3.0.4 CONFIG)
if(NOT pybind11_FOUND)
  message(FATAL_ERROR "pybind11 >= 3.0.4 not found for ${Python_EXECUTABLE}: pip install 'pybind11>=3.0.4', "
                      "or configure with -DVASTMAX_BUILD_PYTHON=OFF")
endif()

pybind11_add_module(_core ${PROJECT_SOURCE_DIR}/bindings/core_module.cpp)
target_link_libraries(_core PRIVATE vastmax_core)
list(JOIN VASTMAX_ISAS " " isa_names)
target_compile_definitions( # what build_config() returns
  _core PRIVATE VASTMAX_VERSION="${PROJECT_VERSION}" VASTMAX_COMPILER="${VASTMAX_COMPILER}" VASTMAX_FLAGS="${VASTMAX_FLAGS}"
                VASTMAX_ISAS="${isa_names}" VASTMAX_COMMIT="${VASTMAX_COMMIT}")
install(TARGETS _core DESTINATION vastmax COMPONENT python)
add_custom_target(extension_modules DEPENDS _core)

if(NOT VASTMAX_CUDA_BACKEND STREQUAL "OFF")
  pybind11_add_module(_cuda ${PROJECT_SOURCE_DIR}/bindings/cuda_module.cpp)
  target_link_libraries(_cuda PRIVATE vastmax_cuda)
  if(VASTMAX_CUDA_BACKEND STREQUAL "ON")
    set_target_properties(_cuda PROPERTIES CUDA_RUNTIME_LIBRARY Static)
  endif()
  add_dependencies(extension_modules _cuda)
  install(TARGETS _cuda DESTINATION vastmax COMPONENT python)
endif()
