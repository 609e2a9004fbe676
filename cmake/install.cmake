# SPDX-License-Identifier: Apache-2.0
# For C++ users: cmake --install BUILD --component dev --prefix DIR, then find_package(vastmax).

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/vastmax)
install(TARGETS vastmax_core EXPORT vastmaxTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT dev)
install(DIRECTORY cpp/include/vastmax DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT dev)
install(EXPORT vastmaxTargets NAMESPACE vastmax:: DESTINATION ${config_dir} COMPONENT dev)
configure_package_config_file(cmake/vastmaxConfig.cmake.in vastmaxConfig.cmake INSTALL_DESTINATION ${config_dir})
write_basic_package_version_file(vastmaxConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/vastmaxConfig.cmake ${PROJECT_BINARY_DIR}/vastmaxConfigVersion.cmake
        DESTINATION ${config_dir} COMPONENT dev)
