# edgec_add_model(<name> MODEL <file.onnx> TARGET <target> [ARGS <option>...] [DEPENDS <file>...])
#
# Compiles a model as part of the build, again when its file or one of DEPENDS changes, and defines the library <name>:
#   edgec_add_model(net MODEL net.onnx TARGET cortex-m4 ARGS --quantize int8 --calib data.npz DEPENDS data.npz)
#   target_link_libraries(app PRIVATE net)     # app includes "net.h"
# ARGS are options of `edgec compile`; EDGEC_COMPILER names the command where it is not on PATH.
find_program(EDGEC_COMPILER edgec HINTS "${CMAKE_CURRENT_LIST_DIR}/../../.venv/bin"
             "${CMAKE_CURRENT_LIST_DIR}/../../../../../../bin" DOC "The command edgec")

function(edgec_add_model name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "MODEL;TARGET" "ARGS;DEPENDS")
  if(NOT arg_MODEL OR NOT arg_TARGET OR arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "edgec_add_model(<name> MODEL <file> TARGET <target> [ARGS ...] [DEPENDS ...])")
  endif()
  if(NOT EDGEC_COMPILER)
    message(FATAL_ERROR "edgec_add_model: no command edgec on PATH; install it (pip) or set EDGEC_COMPILER")
  endif()
  get_filename_component(model "${arg_MODEL}" ABSOLUTE)
  set(folder "${CMAKE_CURRENT_BINARY_DIR}/edgec-${name}")
  set(library "${folder}/lib${name}.a")
  add_custom_command(
    OUTPUT "${library}" "${folder}/${name}.h"
    COMMAND "${EDGEC_COMPILER}" compile "${model}" --target "${arg_TARGET}" --name "${name}" -o "${folder}" ${arg_ARGS}
    DEPENDS "${model}" ${arg_DEPENDS}
    WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}"
    COMMENT "edgec: compiling ${name} for ${arg_TARGET}"
    VERBATIM)
  add_custom_target(${name}_compiled DEPENDS "${library}" "${folder}/${name}.h")
  file(MAKE_DIRECTORY "${folder}") # CMake wants folders of headers to exist
  add_library(${name} STATIC IMPORTED GLOBAL)
  set_target_properties(${name} PROPERTIES IMPORTED_LOCATION "${library}" INTERFACE_INCLUDE_DIRECTORIES "${folder}")
  if(NOT CMAKE_SYSTEM_NAME STREQUAL "Generic")
    set_target_properties(${name} PROPERTIES INTERFACE_LINK_LIBRARIES m)
  endif()
  add_dependencies(${name} ${name}_compiled)
endfunction()
