# SPDX-License-Identifier: Apache-2.0
# The kernels, compiled once per instruction set.

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  set(default_isas scalar avx2 avx512)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
  set(default_isas scalar neon)
else()
  set(default_isas scalar)
endif()
set(VASTMAX_ISAS "${default_isas}" CACHE STRING "Instruction sets to build, out of: ${default_isas}")

foreach(isa IN LISTS VASTMAX_ISAS)
  if(NOT isa IN_LIST default_isas)
    message(FATAL_ERROR "VASTMAX_ISAS: ${isa} is not available on ${CMAKE_SYSTEM_PROCESSOR}; choose from: ${default_isas}")
  endif()
endforeach()
if(NOT "scalar" IN_LIST VASTMAX_ISAS)
  message(FATAL_ERROR "VASTMAX_ISAS must contain scalar, which runs on any machine")
endif()

# vastmax_add_isa(name FLAGS...): the OBJECT library vastmax_<name> of cpp/kernels, with its own flags.
# Never LTO: the linker could then share one ISA's code with another (numpy/numpy#25274).
function(vastmax_add_isa name)
  if(NOT name IN_LIST VASTMAX_ISAS)
    return()
  endif()
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cpp/kernels/*.cpp)
  add_library(vastmax_${name} OBJECT ${sources})
  target_include_directories(vastmax_${name} PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/cpp/include)
  target_compile_definitions(vastmax_${name} PRIVATE VM_ISA=${name})
  target_compile_options(vastmax_${name} PRIVATE ${ARGN} -fno-math-errno -fno-exceptions -fno-rtti)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    # False alarms in avx512fintrin.h (GCC bug 105593).
    target_compile_options(vastmax_${name} PRIVATE -Wno-uninitialized -Wno-maybe-uninitialized)
  endif()
  if(VASTMAX_SANITIZE)
    # The checks left out make a unit take minutes, for locals and references that kernels hardly have.
    # So does following variables through optimised code (columns.cpp: 70 s, without 29): reports need lines only.
    target_compile_options(vastmax_${name} PRIVATE -O2 -g1 -fno-sanitize=null,object-size)
    if("address" IN_LIST VASTMAX_SANITIZE)
      target_compile_options(vastmax_${name} PRIVATE --param=asan-stack=0)
    endif()
  else()
    target_compile_options(vastmax_${name} PRIVATE $<IF:$<CONFIG:Debug>,-O1,-O3>)
  endif()
  set_target_properties(vastmax_${name} PROPERTIES INTERPROCEDURAL_OPTIMIZATION OFF)
endfunction()
