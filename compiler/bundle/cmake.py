"""`<name>Config.cmake`: the bundle as a CMake package."""

from __future__ import annotations

from collections.abc import Sequence

_BARE = "-Os -ffunction-sections -fdata-sections"  # the linker drops what is not called


def cmake(name: str, units: Sequence[str], hosted: bool) -> str:
    """Defines `<name>::<name>`; builds the runtime from source unless the project has `edgec::edgec`."""
    sources = "\n".join(f"    ${{_dir}}/src/{unit}" for unit in units)
    threads = "  set(THREADS_PREFER_PTHREAD_FLAG ON)\n  find_package(Threads REQUIRED)\n" if hosted else ""
    needs = "Threads::Threads ${CMAKE_DL_LIBS} m" if hosted else "m"
    position = "ON" if hosted else "OFF"
    sections = "" if hosted else f"  target_compile_options(edgec_bundled_runtime PRIVATE {_BARE})\n"
    return f"""# find_package({name} CONFIG REQUIRED PATHS <this folder>)
# target_link_libraries(app PRIVATE {name}::{name})
if(TARGET {name}::{name})
  return()
endif()
set(_dir ${{CMAKE_CURRENT_LIST_DIR}})
if(NOT TARGET edgec::edgec)
{threads}  set(_sources
{sources})
  get_property(_languages GLOBAL PROPERTY ENABLED_LANGUAGES)
  if(NOT "C" IN_LIST _languages) # project(... LANGUAGES CXX): the runtime is C++ as well
    set_source_files_properties(${{_sources}} PROPERTIES LANGUAGE CXX)
  endif()
  add_library(edgec_bundled_runtime STATIC EXCLUDE_FROM_ALL ${{_sources}})
  target_include_directories(edgec_bundled_runtime PUBLIC ${{_dir}})
  set_target_properties(edgec_bundled_runtime PROPERTIES
    C_STANDARD 11 POSITION_INDEPENDENT_CODE {position} OUTPUT_NAME edgec)
{sections}  target_link_libraries(edgec_bundled_runtime PUBLIC {needs})
  add_library(edgec::edgec ALIAS edgec_bundled_runtime)
  unset(_languages)
  unset(_sources)
endif()
add_library({name}::{name} STATIC IMPORTED GLOBAL)
set_target_properties({name}::{name} PROPERTIES
  IMPORTED_LOCATION ${{_dir}}/lib{name}.a
  INTERFACE_INCLUDE_DIRECTORIES ${{_dir}}
  INTERFACE_LINK_LIBRARIES "edgec::edgec;m")
unset(_dir)
"""
