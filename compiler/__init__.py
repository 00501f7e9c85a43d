"""The machine: graph IR, operator table, importer, passes' engine, planner, bundle writer, command line."""
