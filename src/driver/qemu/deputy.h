/* Acts once for a process that dies: while that does what nobody could take back in time, a child
 * waits, and says to QEMU what there is to say when its parent is no more. */
#pragma once

/* monitor: the socket of QEMU's monitor; text: commands whose answers nobody needs. Returns what
 * deputy_end() takes; -1: no process could be had, then the next owner does it. */
int deputy_start (int monitor, const char *text);
/* It was not needed. */
void deputy_end (int deputy);
