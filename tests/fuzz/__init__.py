"""Random graphs from the operator table, compiled and compared. `python -m tests.fuzz --help` runs them.

draw.py        what recipes draw from: values made so far, fresh arguments, shapes, element types
recipes/       how each operator is drawn, one file per family; patterns that passes look for
generator.py   a graph and its inputs from a seed
options.py     how a case is compiled: target, threads, passes left out, through ONNX or not
check.py       all that is compared of a case
stable.py      which elements rounding alone may change
play.py        runs a program in fenced memory, its tasks in any order
to_onnx.py     canonical graphs as ONNX models
ort.py         the interpreter against ONNX Runtime, node by node
worker.py      cases in a process of their own, which may crash or hang
shrink.py      the smallest case that fails alike
"""
