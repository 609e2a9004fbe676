# SPDX-License-Identifier: Apache-2.0
# vastmax_core: cpp/host with baseline flags, and the kernels of every ISA.

find_package(Threads REQUIRED)
file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cpp/host/*/*.cpp)
add_library(vastmax_core STATIC ${sources})
add_library(vastmax::vastmax ALIAS vastmax_core)
set_target_properties(vastmax_core PROPERTIES OUTPUT_NAME vastmax EXPORT_NAME vastmax)
target_compile_features(vastmax_core PUBLIC cxx_std_20)
target_include_directories(
  vastmax_core PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/cpp/include> $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>
                      $<INSTALL_INTERFACE:include>)
target_link_libraries(vastmax_core PUBLIC Threads::Threads)
set(built_isas "")
foreach(isa IN LISTS VASTMAX_ISAS)
  target_sources(vastmax_core PRIVATE $<TARGET_OBJECTS:vastmax_${isa}>)
  string(APPEND built_isas " VM(${isa})")
endforeach()
# An option, because CMake's definitions cannot be macros with a parameter.
target_compile_options(vastmax_core PRIVATE "-DVM_BUILT_ISAS(VM)=${built_isas}")
