/* The public handle by which long calls are told to end. */
#pragma once
#include <gio/gio.h>
#include <libbackup/repository.h>

struct BakCancellation {
    gatomicrefcount refs;
    GCancellable *cancellable;
};
