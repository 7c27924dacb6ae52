/* What a running mover needs of its control. */
#pragma once
#include "mover/mover.h"

/* From now on until it is removed: stop_fd is written to at a cancellation (at once, if there was
 * one), wake_fd at a change of the limit. control NULL: nothing happens. */
void mover_control_watch (MoverControl *control, int stop_fd, int wake_fd);
void mover_control_unwatch (MoverControl *control, int stop_fd);
/* Takes bytes of what may be read now; 0: taken; else the microseconds after which to ask again. */
gint64 mover_control_take (MoverControl *control, guint64 bytes);
void mover_wake (int fd);
