/* The machine as the pool sees it: its calls come here through the linker's --wrap.  Set these between calls. */
#ifndef MACHINE_H
#define MACHINE_H

enum { CORES = 8 };

extern int cores, threads_left, memory_left; /* CORES at first; -1, no limit, at first */

#endif
